# Flags shared by every MLXR target. Nothing here is -march=native: kernels choose
# their instruction set at run time (core/kernels/cpu).
find_program(MLXR_CCACHE ccache)
if(MLXR_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${MLXR_CCACHE})
endif()

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
