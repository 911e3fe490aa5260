# What `cmake --install` puts where. Everything finds its neighbours relative to itself, so that the installed tree can be
# moved as a whole.

install(TARGETS fusewire EXPORT fusewireTargets
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(TARGETS fusewire_static EXPORT fusewireStaticTargets
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(FILES capi/fusewire.h capi/fusewire_abi.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})

# pkg-config: one file for the installed library, one for the library in the build tree.
if(IS_ABSOLUTE ${CMAKE_INSTALL_LIBDIR} OR IS_ABSOLUTE ${CMAKE_INSTALL_INCLUDEDIR})
  set(PC_PREFIX ${CMAKE_INSTALL_PREFIX})
  set(PC_LIBDIR ${CMAKE_INSTALL_FULL_LIBDIR})
  set(PC_INCLUDEDIR ${CMAKE_INSTALL_FULL_INCLUDEDIR})
else()
  file(RELATIVE_PATH up /prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig /prefix)
  string(REGEX REPLACE "/$" "" up ${up})
  set(PC_PREFIX "\${pcfiledir}/${up}")
  set(PC_LIBDIR "\${prefix}/${CMAKE_INSTALL_LIBDIR}")
  set(PC_INCLUDEDIR "\${prefix}/${CMAKE_INSTALL_INCLUDEDIR}")
endif()
configure_file(pkgconfig/fusewire.pc.in ${PROJECT_BINARY_DIR}/pkgconfig/installed/fusewire.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/pkgconfig/installed/fusewire.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
set(PC_PREFIX ${PROJECT_BINARY_DIR})
set(PC_LIBDIR ${PROJECT_BINARY_DIR})
set(PC_INCLUDEDIR ${PROJECT_SOURCE_DIR}/capi)
configure_file(pkgconfig/fusewire.pc.in ${PROJECT_BINARY_DIR}/pkgconfig/fusewire.pc @ONLY)

set(package_folder ${CMAKE_INSTALL_LIBDIR}/cmake/fusewire)
install(EXPORT fusewireTargets NAMESPACE fusewire:: DESTINATION ${package_folder})
install(EXPORT fusewireStaticTargets NAMESPACE fusewire:: DESTINATION ${package_folder})
configure_package_config_file(cmake/fusewireConfig.cmake.in ${PROJECT_BINARY_DIR}/fusewireConfig.cmake
  INSTALL_DESTINATION ${package_folder})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/fusewireConfigVersion.cmake COMPATIBILITY SameMajorVersion)
install(FILES ${PROJECT_BINARY_DIR}/fusewireConfig.cmake ${PROJECT_BINARY_DIR}/fusewireConfigVersion.cmake
  DESTINATION ${package_folder})

install(FILES LICENSE README.md CHANGELOG.md DESTINATION ${CMAKE_INSTALL_DOCDIR})
