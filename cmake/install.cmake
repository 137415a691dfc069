# Where things lie, in the build tree and installed, and the package made of it.
#
# The program looks for a runtime beside itself (runtime/perl.so), then in ../lib/bladepsgi/runtime: it works from the
# build tree and from any prefix, without a path compiled in.
include(GNUInstallDirs)

set_target_properties(bladepsgi bladectl PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR})
set_target_properties(runtime_perl PROPERTIES LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/runtime
                                              PREFIX "" OUTPUT_NAME perl SUFFIX .so)

# lib, not CMAKE_INSTALL_LIBDIR: a runtime is no library to link with, and the program must find it on every system.
install(TARGETS bladepsgi bladectl RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(FILES $<TARGET_FILE_DIR:bladepsgi>/bladepsgi-fcgi DESTINATION ${CMAKE_INSTALL_BINDIR})
install(TARGETS runtime_perl LIBRARY DESTINATION lib/bladepsgi/runtime)
install(DIRECTORY perl/lib/ DESTINATION ${CMAKE_INSTALL_DATADIR}/perl5 FILES_MATCHING PATTERN *.pm PATTERN *.pod)
install(FILES ${CMAKE_BINARY_DIR}/doc/bladepsgi.1 ${CMAKE_BINARY_DIR}/doc/bladepsgi-fcgi.1
              ${CMAKE_BINARY_DIR}/doc/bladectl.1
        DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
install(FILES README.md CHANGELOG.md docs/options.md docs/bladectl.md DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR} RENAME copyright)
install(DIRECTORY examples DESTINATION ${CMAKE_INSTALL_DOCDIR} USE_SOURCE_PERMISSIONS)

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME bladepsgi)
set(CPACK_PACKAGE_VENDOR "The BladePSGI authors")
set(CPACK_PACKAGE_CONTACT "The BladePSGI authors <bladepsgi@localhost>")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION httpd)
set(CPACK_DEBIAN_PACKAGE_DESCRIPTION
    "Application server for PSGI over FastCGI
Loads a Perl application once and serves it behind a web server from a set of
preforked, supervised processes. Successor of BladePSGI 1.0.")
# libc, libstdc++ and the libperl of exactly the Perl it was built for: read from the binaries.
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_DEPENDS perl)
set(CPACK_DEBIAN_PACKAGE_RECOMMENDS libplack-perl)
set(CPACK_DEBIAN_PACKAGE_SUGGESTS "nginx | httpd")
include(CPack)
