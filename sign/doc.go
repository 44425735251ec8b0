// Package sign is all of dbuild's OpenPGP: it verifies clearsigned and detached
// signatures against Debian's keyrings, keeps the local keys that sign
// statements and repositories, and asks gpg for the signatures of a person's own
// keys.
//
// Verification is stricter than gpgv's exit code. A document is exactly one
// clearsigned block with nothing around it; every signature packet is judged
// by itself; at least one must be good, strong, and made by an allowed key that
// is neither expired nor revoked; and callers get the bytes that were verified,
// so nothing is parsed that was not signed.
package sign
