// Package chroot bootstraps the base root file system of a suite and an
// architecture from verified .debs: the package set and the tree of
// mmdebstrap's buildd variant, made without any tool of the host.
//
// [Create] works against any [dbuild/engine.Engine], in a scratch container
// without a network:
//
//  1. [Solve] picks the packages from the verified indexes.
//  2. The .debs are fetched by package archive. As they arrive, their control
//     members are read in Go and their data is unpacked inside the container,
//     decompressed by the container's own xz once the seeds (the packages
//     that xz needs) are there.
//  3. When the early group (essential and required packages, libraries) is
//     unpacked, its part of the dpkg database is written as dpkg would leave
//     it after --unpack, its preinst scripts run, then dpkg --configure. The
//     rest is unpacked meanwhile and then goes the same way.
//  4. What depends on the run is removed, times are clamped to the epoch, the
//     builder user is added, and the result is committed as an image.
//
// The same indexes give the same tree, bit for bit, whatever the number of
// workers and the load. Where the tree differs from mmdebstrap's it says so in
// [Differences].
//
// What unpacking in any order asks for, and is checked: no two packages of the
// set ship the same file, and directories get the mode and owner that one fixed
// package says.
package chroot
