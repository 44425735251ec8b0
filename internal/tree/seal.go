package tree

// Seal is the manifest of one layer together with what the file system says
// of each entry: inode, time of last change and number of links. A layer whose
// files still have all that was not changed by anyone who cannot set the
// machine's clock. See [Seal.Check].
//
// A seal holds for the file system that it was made on: after a copy to
// another disk every inode differs.
type Seal struct {
	m       Manifest
	stamps  []stamp // one for each entry of m
	parents []int32 // index of each entry's directory, -1 for the root
}

// Manifest returns the layer's manifest, whiteouts and opaque marks included.
// The caller must not change it.
func (s *Seal) Manifest() Manifest { return s.m }
