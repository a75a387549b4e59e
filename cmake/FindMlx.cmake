# MLX comes from the PyPI wheel in a virtual environment (scripts/setup.sh makes it): headers,
# libmlx and a CMake package. Its BLAS and Fortran runtime lie beside it in mlx_cpu.libs.
set(MLXR_VENV "" CACHE PATH "Virtual environment with the mlx wheel; empty: .venv")
if(NOT MLXR_VENV AND DEFINED ENV{MLXR_VENV})
  set(MLXR_VENV "$ENV{MLXR_VENV}" CACHE PATH "" FORCE)  # kept: a later run may lack the variable
endif()
set(_venv ${MLXR_VENV})
if(NOT _venv)
  set(_venv ${CMAKE_SOURCE_DIR}/.venv)
endif()
file(GLOB _mlx_dir ${_venv}/lib/python3*/site-packages/mlx)
if(NOT _mlx_dir)
  message(FATAL_ERROR "MLX was not found in ${_venv}. Run scripts/setup.sh, or set MLXR_VENV.")
endif()
list(GET _mlx_dir 0 _mlx_dir)
get_filename_component(_site ${_mlx_dir} DIRECTORY)

add_library(mlxr_mlx INTERFACE)
target_include_directories(mlxr_mlx SYSTEM INTERFACE ${_mlx_dir}/include)
if(APPLE)
  target_link_libraries(mlxr_mlx INTERFACE ${_mlx_dir}/lib/libmlx.dylib)
else()
  target_link_libraries(mlxr_mlx INTERFACE ${_mlx_dir}/lib/libmlx.so)
  target_link_options(mlxr_mlx INTERFACE -Wl,--disable-new-dtags
                      -Wl,-rpath-link,${_site}/mlx_cpu.libs)
  list(APPEND CMAKE_BUILD_RPATH ${_mlx_dir}/lib ${_site}/mlx_cpu.libs)
endif()
