// Package deb reads Debian's formats: deb822 documents, Release, Packages
// and Sources indexes, versions, relations, dpkg's architecture table, file
// lists, changelogs, ar archives and .deb files.
//
// Everything here takes untrusted bytes. The readers are strict and bounded:
// they refuse what dpkg or apt would refuse, and also what those tools
// quietly repair (a repeated field, a NUL byte, a file name with a path in
// it), because two readers that repair differently can be played against
// each other. No function runs a program, writes a file or uses the network,
// and nothing in this package imports another package of this module; errors
// are plain, and callers decide which class they belong to.
//
// OpenPGP armor is not handled: callers strip it first and hand over the
// signed text only.
package deb
