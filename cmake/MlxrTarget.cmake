# Flags shared by every MLXR target. Nothing here is -march=native: kernels choose
# their instruction set at run time (core/kernels/cpu).
find_program(MLXR_CCACHE ccache)
if(MLXR_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${MLXR_CCACHE})
endif()

# Half of a file's compile time is reading headers. A precompiled header saves that; ccache saves
# more, but does not cache files that include one unless told to, so it is one or the other.
set(_pch ON)
if(MLXR_CCACHE OR CMAKE_CXX_COMPILER_LAUNCHER)
  set(_pch OFF)
endif()
option(MLXR_PRECOMPILE "Precompile the headers that most files include" ${_pch})

# mlxr_source_dir(TARGET): it has tests/source_dir.h, and knows the root of the repository by it.
function(mlxr_source_dir target)
  set(source ${CMAKE_SOURCE_DIR}/tests/source_dir.cpp)
  target_sources(${target} PRIVATE ${source})
  set_source_files_properties(${source} PROPERTIES
                              COMPILE_DEFINITIONS MLXR_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
endfunction()

# mlxr_precompile(TARGET HEADER...): the standard's headers that most files include, and HEADER...
function(mlxr_precompile target)
  if(MLXR_PRECOMPILE)
    target_precompile_headers(${target} PRIVATE <algorithm> <cmath> <filesystem> <functional> <map>
                              <memory> <optional> <random> <span> <string> <string_view> <vector>
                              ${ARGN})
  endif()
endfunction()

# Most of a sanitizers' build goes into reading and instantiating the same headers again: there, several
# files of a folder are compiled as one. Where files change and are built again, each is for itself.
set(_unite OFF)
if(MLXR_SANITIZE)
  set(_unite ON)
endif()
option(MLXR_UNITE "Compile several files of a folder as one" ${_unite})

# mlxr_unite(TARGET [FOLDER...]): not the files of these folders, which define the same names.
function(mlxr_unite target)
  if(NOT MLXR_UNITE)
    return()
  endif()
  set(last)
  get_target_property(sources ${target} SOURCES)
  foreach(source ${sources})
    file(RELATIVE_PATH relative ${CMAKE_CURRENT_SOURCE_DIR} ${source})
    cmake_path(GET relative PARENT_PATH folder)
    if(folder IN_LIST ARGN)
      continue()
    endif()
    if(NOT folder STREQUAL last)
      set(last ${folder})
      set(number 0)
    endif()
    math(EXPR part "${number} / 8")
    math(EXPR number "${number} + 1")
    string(MAKE_C_IDENTIFIER "${folder}_${part}" group)
    set_source_files_properties(${source} PROPERTIES UNITY_GROUP ${group})
  endforeach()
  set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_MODE GROUP)
  # A class may well have members whose types are internal to its file.
  target_compile_options(${target} PRIVATE $<$<CXX_COMPILER_ID:GNU>:-Wno-subobject-linkage>)
endfunction()

add_library(mlxr_flags INTERFACE)
target_include_directories(mlxr_flags INTERFACE ${CMAKE_SOURCE_DIR})
target_compile_options(mlxr_flags INTERFACE -Wall -Wextra -Wno-unused-parameter -Wno-psabi
                                            -Wno-missing-field-initializers)
if(MLXR_WERROR)
  target_compile_options(mlxr_flags INTERFACE -Werror)
endif()
# Kernels state where they fuse a multiply and an add; the compiler must not choose for them,
# or the same row could round differently in two kernels.
target_compile_options(mlxr_flags INTERFACE -ffp-contract=off)
if(MLXR_SANITIZE)
  target_compile_options(mlxr_flags INTERFACE -fsanitize=${MLXR_SANITIZE} -fno-omit-frame-pointer
                                              -fno-sanitize-recover=all)
  if(MLXR_SANITIZE MATCHES undefined)
    # AddressSanitizer stops at a null or dead object as well; both checks cost a third of the build.
    target_compile_options(mlxr_flags INTERFACE -fno-sanitize=null,vptr)
  endif()
  target_link_options(mlxr_flags INTERFACE -fsanitize=${MLXR_SANITIZE})
endif()

# mlxr_library(NAME DIR...) : an object library from every .cpp directly in the given folders.
function(mlxr_library name)
  set(sources)
  foreach(dir ${ARGN})
    file(GLOB found CONFIGURE_DEPENDS ${dir}/*.cpp)
    list(APPEND sources ${found})
  endforeach()
  add_library(${name} STATIC ${sources})
  target_link_libraries(${name} PUBLIC mlxr_flags)
endfunction()
