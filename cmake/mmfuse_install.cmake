# install: the command, the library, its headers, a pkg-config file, a CMake package and the documents.
#
# The package describes the library by hand instead of exporting targets: an export would also install the
# interface target of our warnings and every object library.
include(CMakePackageConfigHelpers)

# Appends to `out` the link names (-lNAME without -l) behind a list of targets, paths and names.
function(mmfuse_link_names out)
  set(names ${${out}})
  foreach(item IN LISTS ARGN)
    if(TARGET ${item})
      get_target_property(location ${item} IMPORTED_LOCATION)
      get_target_property(location_release ${item} IMPORTED_LOCATION_RELEASE)
      get_target_property(linked ${item} INTERFACE_LINK_LIBRARIES)
      foreach(part IN LISTS location location_release linked)
        if(part)
          mmfuse_link_names(names ${part})
        endif()
      endforeach()
    elseif(item MATCHES "^-l(.+)$")
      list(APPEND names ${CMAKE_MATCH_1})
    elseif(NOT item MATCHES "[$<>]|^-|NOTFOUND")
      get_filename_component(name ${item} NAME_WE)
      string(REGEX REPLACE "^lib" "" name ${name})
      list(APPEND names ${name})
    endif()
  endforeach()
  list(REMOVE_DUPLICATES names)
  set(${out} ${names} PARENT_SCOPE)
endfunction()

set(MMFUSE_LINK_NAMES)
mmfuse_link_names(MMFUSE_LINK_NAMES mmfuse)
# libc holds these since glibc 2.34; a file of an older system would only be in the way.
list(REMOVE_ITEM MMFUSE_LINK_NAMES pthread dl rt)

# A static library leaves linking its dependencies to the program; a shared one has done it.
get_target_property(mmfuse_type mmfuse TYPE)
set(mmfuse_flags_text ${MMFUSE_LINK_NAMES})
list(TRANSFORM mmfuse_flags_text PREPEND "-l")
list(JOIN mmfuse_flags_text " " mmfuse_flags_text)
if(mmfuse_type STREQUAL "STATIC_LIBRARY")
  set(MMFUSE_PC_LIBS "-lmmfuse ${mmfuse_flags_text}")
  set(MMFUSE_PC_LIBS_PRIVATE "")
  set(MMFUSE_PACKAGE_LINK ${MMFUSE_LINK_NAMES})
  set(MMFUSE_LIBRARY_FILE "${CMAKE_STATIC_LIBRARY_PREFIX}mmfuse${CMAKE_STATIC_LIBRARY_SUFFIX}")
else()
  set(MMFUSE_PC_LIBS "-lmmfuse")
  set(MMFUSE_PC_LIBS_PRIVATE "${mmfuse_flags_text}")
  set(MMFUSE_PACKAGE_LINK)
  set(MMFUSE_LIBRARY_FILE "${CMAKE_SHARED_LIBRARY_PREFIX}mmfuse${CMAKE_SHARED_LIBRARY_SUFFIX}")
endif()

set(mmfuse_package_folder ${CMAKE_INSTALL_LIBDIR}/cmake/mmfuse)
configure_package_config_file(${CMAKE_SOURCE_DIR}/cmake/mmfuseConfig.cmake.in
  ${CMAKE_BINARY_DIR}/mmfuseConfig.cmake
  INSTALL_DESTINATION ${mmfuse_package_folder}
  PATH_VARS CMAKE_INSTALL_LIBDIR CMAKE_INSTALL_INCLUDEDIR)
write_basic_package_version_file(${CMAKE_BINARY_DIR}/mmfuseConfigVersion.cmake
  VERSION ${PROJECT_VERSION} COMPATIBILITY SameMinorVersion)
# The way from the pkg-config file up to the prefix, so that an installed tree can be moved.
file(RELATIVE_PATH MMFUSE_PC_PREFIX ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
configure_file(${CMAKE_SOURCE_DIR}/cmake/mmfuse.pc.in ${CMAKE_BINARY_DIR}/mmfuse.pc @ONLY)

install(TARGETS mmfuse_cli RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(TARGETS mmfuse
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY include/mmfuse DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
install(FILES ${CMAKE_BINARY_DIR}/mmfuse.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
install(FILES ${CMAKE_BINARY_DIR}/mmfuseConfig.cmake ${CMAKE_BINARY_DIR}/mmfuseConfigVersion.cmake
  DESTINATION ${mmfuse_package_folder})
install(FILES LICENSE CHANGELOG.md DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(DIRECTORY docs/ DESTINATION ${CMAKE_INSTALL_DOCDIR} FILES_MATCHING PATTERN "*.md")
