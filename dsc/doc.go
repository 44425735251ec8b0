// Package dsc reads source packages, wherever they are (a .dsc file, a URL,
// the archive, an unpacked tree), and the documents of an upload: .changes and
// .buildinfo.
//
// All input is untrusted. Documents are parsed from the very bytes whose
// signature and checksums were verified; files are opened without following
// symbolic links and without waiting; nothing is unpacked. What a document says
// is either safe to use as it stands (names are plain base names, versions and
// architectures valid) or the whole document is refused with the class
// [dbuild/internal/fault.Input], or Trust where checksums and signatures disagree.
package dsc
