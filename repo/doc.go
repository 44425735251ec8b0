// Package repo is the local apt repository into which builds publish: one
// directory that any web server, or apt itself by way of file:, can serve as
// it is.
//
// [Open] the repository, [Repo.Publish] an [Upload], and now and then
// [Repo.Collect] what nobody needs any more.
//
//	key.asc                         the public key, for Signed-By
//	suites/SUITE.json               the suite's fixed identity and its rules
//	records/SUITE/                  other names of what dists/SUITE is made of
//	dists/SUITE -> .SUITE.N         the generation that clients see
//	dists/.SUITE.N/                 a complete generation, never changed
//	dists/.SUITE_draft.*/           one that waits to be signed, held by its maker
//	dists/.SUITE.by-hash/SHA256/    index files of all kept generations
//	dists/.SUITE.shards/            pieces of the current indexes; a cache
//	pool/SUITE/COMPONENT/h/hello/   packages and sources
//	builds/BUILD/                   .changes and .buildinfo of each build
//
// A suite changes in one step: a publish writes a whole new generation, with
// hard links for the indexes that did not change, makes it durable, and then
// swaps the symbolic link. A client sees the old suite or the new one, and a
// client that is half way through the old one still finds its indexes by
// hash and its packages in the pool, because both outlive their generation
// by a grace time. A process that is killed at any point leaves the old suite
// or the new one and some files that nobody refers to; the next publish works
// without repair, and Collect takes the rest.
//
// Keys may take long to sign: a generation is drafted under the repository's
// lock, signed without it, and installed under it, if it still follows the one
// that clients see. See update.
//
// The cost of a publish follows the change. An index lists its entries in the
// order in which they came to the suite. It is made of shards one after the
// other, each compressed by itself; a change makes the one or two that it falls
// into anew, from their rows. What is before them is copied and not hashed
// again: the state of the hash at the end of each shard is kept. So what is new
// costs its own shard, and what goes costs the hashing of what came later.
// Indexes that a change does not touch keep their files.
//
// The records are what a suite is made of under other names. Where dists, the
// files of suites or the database are lost, they are made again from the rest,
// as they were signed.
//
// The generation that the link names is the truth. The database holds the
// same rows in a form that is quick to ask, together with the digest of the
// Release file that they stand for; when the digests differ (after a crash,
// or with a fresh database) the rows are read again from the signed indexes.
// Changes that wait for their generation are in the database alone: a publish
// returns without an error only when clients see what it brought.
package repo
