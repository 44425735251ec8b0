// Package archive speaks to remote Debian archives. It knows the suites of
// the vendors, fetches and verifies their InRelease files, keeps the indexes
// that those name and the package files that a build needs in a partial local
// copy, and lays out parts of that copy for apt in a container without a
// network.
//
// The order of use is [FindSuite], [Suite.Sources], [Open], [Copy.Update],
// [Copy.Prefetch], then [Copy.Fetch] and [Copy.View]. Nothing that came over
// the network is visible under its final name before its size and SHA-256
// matched a row of a verified Release file.
//
// What goes wrong is told by class: [dbuild/internal/fault.Network] for the
// transport, [dbuild/internal/fault.Trust] for signatures, hashes and
// freshness. Freshness is decided here alone; the host's apt configuration is
// never asked.
package archive
