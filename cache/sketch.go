package cache

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
)

// sketch is what of a package set decides whether it can be a part of another:
// for each package a hash of its name and architecture, and one of all that
// identifies it. A statement with 300 packages takes 50 times as long to verify.
// That two hashes are equal by chance only makes an image tried, or overlooked.
type sketch []byte

const (
	hashSize  = 8
	pairSize  = 2 * hashSize
	separator = "\x00"
)

type shortHash [hashSize]byte

func shortHashOf(text string) (h shortHash) {
	sum := sha256.Sum256([]byte(text))
	copy(h[:], sum[:])
	return h
}

func sketchOf(set []Package) sketch {
	k := make(sketch, 0, len(set)*pairSize)
	for _, p := range set {
		name := shortHashOf(p.Name + separator + p.Arch)
		whole := shortHashOf(p.Name + separator + p.Arch + separator + p.Version + separator + p.SHA256)
		k = append(append(k, name[:]...), whole[:]...)
	}
	return k
}

// count is the number of packages.
func (k sketch) count() int { return len(k) / pairSize }

// pair returns the hashes of package i.
func (k sketch) pair(i int) (name, whole shortHash) {
	pair := k[i*pairSize:]
	copy(name[:], pair)
	copy(whole[:], pair[hashSize:])
	return name, whole
}

// index maps names to the whole.
func (k sketch) index() map[shortHash]shortHash {
	m := make(map[shortHash]shortHash, k.count())
	for i := range k.count() {
		name, whole := k.pair(i)
		m[name] = whole
	}
	return m
}

// within reports whether each package of k is in want, perhaps as another
// version; replaced counts those.
func (k sketch) within(want map[shortHash]shortHash) (replaced int, ok bool) {
	for i := range k.count() {
		name, whole := k.pair(i)
		w, there := want[name]
		if !there {
			return 0, false
		}
		if w != whole {
			replaced++
		}
	}
	return replaced, true
}

func sketchKey(hash string) string { return "sketch " + hash }

// sketch returns what was kept of a statement's packages; of one that is met for
// the first time it is made. It is false if that does not verify, which is said.
func (s *Store) sketch(ctx context.Context, h *head, hash string) (sketch, bool) {
	if text, ok := s.memo.get(ctx, sketchKey(hash)); ok {
		k, err := base64.StdEncoding.DecodeString(text)
		if err == nil && len(k)%pairSize == 0 {
			return k, true
		}
	}
	st, err := s.loadListed(h, hash)
	if err != nil {
		s.report.Warn("%v", err)
		return nil, false
	}
	return s.keepSketch(ctx, hash, st.Packages), true
}

// keepSketch stores the sketch of a statement's packages.
func (s *Store) keepSketch(ctx context.Context, hash string, set []Package) sketch {
	k := sketchOf(set)
	if err := s.memo.put(ctx, sketchKey(hash), base64.StdEncoding.EncodeToString(k), false); err != nil {
		s.report.Note("what image %.12s holds is not kept: %v", hash, err)
	}
	return k
}
