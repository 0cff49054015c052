# Reads a table (`MMF_ROW(name)` lines of a .def file) at configure time: the row that registers a piece
# also adds its source file to the build.
function(mmfuse_read_table table_file macro out)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${table_file})
  file(STRINGS ${table_file} rows REGEX "^${macro}\\(")
  get_filename_component(folder ${table_file} DIRECTORY)
  set(sources)
  foreach(row IN LISTS rows)
    string(REGEX REPLACE "^${macro}\\(([a-z0-9_]+)[,)].*" "\\1" name "${row}")
    list(APPEND sources ${folder}/${name}.c)
  endforeach()
  list(REMOVE_DUPLICATES sources)
  set(${out} ${sources} PARENT_SCOPE)
endfunction()
