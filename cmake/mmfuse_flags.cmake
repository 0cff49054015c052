# Flags that every target of the project shares, as one interface target.
set(CMAKE_C_STANDARD 17)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS ON)
set(CMAKE_C_VISIBILITY_PRESET hidden)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR})

add_library(mmfuse_flags INTERFACE)
target_compile_definitions(mmfuse_flags INTERFACE _GNU_SOURCE)
target_include_directories(mmfuse_flags INTERFACE
  $<BUILD_INTERFACE:${CMAKE_SOURCE_DIR}/include> $<BUILD_INTERFACE:${CMAKE_SOURCE_DIR}/src>)
target_compile_options(mmfuse_flags INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes -Wvla
  -Wcast-qual -Wwrite-strings -Wundef -fno-math-errno -fno-trapping-math)
if(MMF_WERROR)
  target_compile_options(mmfuse_flags INTERFACE -Werror)
endif()
if(MMF_SANITIZE)
  target_compile_options(mmfuse_flags INTERFACE -fsanitize=${MMF_SANITIZE} -fno-omit-frame-pointer
    -fno-sanitize-recover=undefined)
  target_compile_definitions(mmfuse_flags INTERFACE MMF_ARENA_DEBUG)
  target_link_options(mmfuse_flags INTERFACE -fsanitize=${MMF_SANITIZE})
endif()
