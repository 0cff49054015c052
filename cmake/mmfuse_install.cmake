# install: the command, the library, its headers, a pkg-config file and a CMake package.
include(CMakePackageConfigHelpers)
install(TARGETS mmfuse_cli RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(TARGETS mmfuse ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY include/mmfuse DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
