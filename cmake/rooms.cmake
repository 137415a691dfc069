# Compiler settings every target shares, and add_room(): one library a room, with the tests that stand beside its sources.

add_library(bladepsgi_flags INTERFACE)
target_include_directories(bladepsgi_flags INTERFACE ${PROJECT_SOURCE_DIR}/src)
target_compile_options(bladepsgi_flags INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wnon-virtual-dtor
                       -Wold-style-cast -Woverloaded-virtual -fvisibility=hidden -fno-omit-frame-pointer)
if(BLADEPSGI_WERROR)
  target_compile_options(bladepsgi_flags INTERFACE -Werror)
endif()
if(BLADEPSGI_SANITIZE)
  # Without vptr: that check opens a pipe to look at memory, and is wrong where a test leaves no descriptors.
  target_compile_options(bladepsgi_flags INTERFACE -fsanitize=address,undefined -fno-sanitize=vptr
                         -fno-sanitize-recover=undefined)
  target_link_options(bladepsgi_flags INTERFACE -fsanitize=address,undefined)
  if(CMAKE_CXX_COMPILER_ID STREQUAL GNU)
    # Tests learn of a report in a process whose end nobody sees by UBSAN_OPTIONS=log_path. Beside libasan that takes a
    # runtime of one's own in each binary, kept to itself: both libraries export a function that sets the path.
    target_link_options(bladepsgi_flags INTERFACE -static-libubsan LINKER:--exclude-libs,libubsan.a)
  endif()
endif()
if(BLADEPSGI_FUZZ)
  target_compile_options(bladepsgi_flags INTERFACE -fsanitize=fuzzer-no-link,address,undefined
                         -fno-sanitize-recover=undefined)
  target_link_options(bladepsgi_flags INTERFACE -fsanitize=address,undefined)
endif()

find_package(fmt REQUIRED)
if(BLADEPSGI_TESTS)
  find_package(GTest REQUIRED)
  include(GoogleTest)
endif()

# add_room(NAME SOURCES … USES … LIBRARIES …): library room_NAME from SOURCES, using the rooms in USES and the foreign
# LIBRARIES; every *_test.cc in the folder becomes part of the test program NAME_test.
function(add_room name)
  cmake_parse_arguments(ROOM "" "" "SOURCES;USES;LIBRARIES" ${ARGN})
  list(TRANSFORM ROOM_USES PREPEND room_)
  if(ROOM_SOURCES)
    add_library(room_${name} STATIC ${ROOM_SOURCES})
    target_link_libraries(room_${name} PUBLIC bladepsgi_flags ${ROOM_USES} ${ROOM_LIBRARIES})
  else()
    add_library(room_${name} INTERFACE)
    target_link_libraries(room_${name} INTERFACE bladepsgi_flags ${ROOM_USES} ${ROOM_LIBRARIES})
  endif()
  if(BLADEPSGI_TESTS)
    file(GLOB tests CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*_test.cc)
    if(tests)
      add_executable(${name}_test ${tests})
      target_link_libraries(${name}_test PRIVATE room_${name} GTest::gmock_main)
      gtest_discover_tests(${name}_test TEST_PREFIX "unit." PROPERTIES LABELS unit TIMEOUT 120
                           DISCOVERY_TIMEOUT 60)
    endif()
  endif()
endfunction()
