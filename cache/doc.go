// Package cache keeps the base and deps images of one engine with the signed
// statements that make them trustworthy, and finds the one that a run may use.
//
// # Files
//
// Below the directory given to [Open] ($STATE/images):
//
//	head                        which statements are in force
//	statements/HASH.json        a statement, named by the SHA-256 of its bytes
//	statements/HASH.json.asc    its detached signature
//	statements/HASH.seal        the seal of an image, named by the SHA-256 of its bytes
//	retired/HASH.json, .asc     statements whose image was removed; published files may lead to them
//	kept/HASH                   a file of a [KeptDir], named by its SHA-256; can be made again
//	in-use/HASH.N               locked and removed by the process that has the image open
//	locks/                      lock files, never removed
//
// A statement ([Statement]) says what an image holds and where it came from:
// canonical JSON, which means that it must be equal, byte for byte, to what
// [Statement.Marshal] writes. That alone refuses unknown and repeated fields,
// other spellings and trailing data. Its signature is by the image key and
// names the statement's kind in a critical notation, so that a statement of one
// kind never passes for another, nor any other signature of that key.
//
// head is one line of canonical JSON, {"v","kind":"head","seq","entries"}, and
// the armored signature of that line. Its sequence number rises with each
// change, and the highest one seen is also kept, authenticated, in the
// database: an older head that was put back is refused. A statement that head
// does not list is not in force, whoever signed it. An entry that
// [Store.Rollback] marked "aside" stays listed and kept, but is not found.
//
// # Order of writing
//
// The engine holds the image first; then come seal, statement, signature and,
// last, head, each written atomically and synced. A process that dies between
// leaves an image or files that nothing lists; [Store.Reap] takes them away.
// Removal goes the other way: head first.
//
// # What is checked, and when
//
// [Store.Base] and [Store.Deps] verify head, the statement and each of its
// parents: signature, kind, hash, and that the run's own [Policy] would have
// made the base and taken what was added from the same signers, with no check
// off that is on now. What is listed but missing, altered or signed by another key
// is an error of class trust and is never rebuilt over in silence. An image
// that the engine does not have is only noted: it is made again.
//
// [Entry.Check] looks at the stored files and can run beside the start of a
// container. Engines that seal ([engine.Sealer]) compare every inode. The first
// use after a boot also hashes all contents, as [Entry.Verify] always does, and
// so does the first use after a process that had the image, or one with which it
// shares a layer, open was killed: such a process leaves its file in in-use.
// Between, an engine that does not seal must do with its image id, which the
// statement names.
//
// This finds damage and what other users did. It cannot find what root or the
// owner of the image key did.
//
// # Database
//
// Rows of the table memo(key, value, mac) are authenticated with a key derived
// from the image key: which package set a resolver run gave, which images were
// hashed since the boot, which packages each holds, what is in kept, the highest sequence number. A row whose mac is wrong
// is dropped with a note. The table image_use(statement, used) is only for
// expiry. Losing the database costs time, nothing else.
package cache
