package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"dbuild/internal/atomicfile"
	"dbuild/internal/fault"
	"dbuild/sign"
)

const maxSignature = 64 << 10

// readBounded reads a regular file of at most limit bytes without following a
// symbolic link.
func readBounded(path string, limit int64) (data []byte, err error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() || st.Size() > limit {
		return nil, fmt.Errorf("read %q: no regular file of at most %d bytes", path, limit)
	}
	return io.ReadAll(io.LimitReader(f, limit))
}

// loadStatement reads the statement at path, which must have this hash and
// kind (any, if empty) and a signature by the image key.
func (s *Store) loadStatement(path, hash string, kind Kind) (st Statement, err error) {
	return s.loadSigned(s.key.Keyring(), path, hash, kind)
}

// loadSigned is loadStatement for the keys of a ring.
func (s *Store) loadSigned(ring *sign.Keyring, path, hash string, kind Kind) (st Statement, err error) {
	data, err := readBounded(path, maxStatement)
	if err != nil {
		return st, trust(path, err)
	}
	if got := hashOf(data); got != hash {
		return st, trust(path, fmt.Errorf("its content has SHA-256 %s", got))
	}
	sig, err := readBounded(path+".asc", maxSignature)
	if errors.Is(err, fs.ErrNotExist) {
		err = sign.ErrUnsigned
	}
	if err != nil {
		return st, trust(path, err)
	}
	st, err = s.verify(ring, data, sig, kind)
	if err != nil {
		return st, trust(path, err)
	}
	return st, nil
}

// verify parses a statement once its signature was found good. Kind and key of
// the signature must be those of the text.
func (s *Store) verify(ring *sign.Keyring, data, sig []byte, kind Kind) (st Statement, err error) {
	var by sign.Signature
	verified := false
	kinds := []Kind{kind}
	if kind == "" {
		kinds = []Kind{KindBase, KindDeps, KindBuild}
	}
	for _, k := range kinds {
		if by, err = ring.VerifyDetached(data, sig, sign.Policy{Now: s.o.Now(), Kind: string(k)}); err == nil {
			kind, verified = k, true
			break
		}
	}
	if !verified {
		return st, err
	}
	if st, err = ParseStatement(data); err != nil {
		return st, err
	}
	if st.Kind != kind || st.Signer != by.Fingerprint {
		return st, fmt.Errorf("it claims kind %q and signer %s", st.Kind, st.Signer)
	}
	return st, nil
}

// writeStatement signs st and writes the pair; the signature is last. It
// returns the statement's hash.
func (s *Store) writeStatement(st Statement) (hash string, err error) {
	data, sig, err := s.signStatement(st)
	if err != nil {
		return "", err
	}
	hash = hashOf(data)
	path := s.statementPath(hash)
	if err := atomicfile.Write(path, data, 0o600); err != nil {
		return "", err
	}
	return hash, atomicfile.Write(path+".asc", sig, 0o600)
}

func (s *Store) signStatement(st Statement) (data, sig []byte, err error) {
	if data, err = st.Marshal(); err != nil {
		return nil, nil, err
	}
	// What cannot be read back must never be signed.
	if _, err := ParseStatement(data); err != nil {
		return nil, nil, fault.New(fault.Internal, "sign statement: %w", err)
	}
	sig, err = s.key.DetachSign(data, s.o.Now(), string(st.Kind))
	return data, sig, err
}

// SignBuild completes and signs a statement about a build: its image is the
// one that Deps names, its results are Artifacts. The store does not keep it;
// the caller puts the two files beside the results.
func (s *Store) SignBuild(st Statement) (data, sig []byte, err error) {
	st.V, st.EngineFormat, st.Kind, st.Seq = Version, EngineFormat, KindBuild, 0
	st.Created, st.Signer = whole(s.o.Now()), s.key.Fingerprint()
	if st.Tool == "" {
		st.Tool = s.o.Tool
	}
	return s.signStatement(st)
}

// VerifyBuild is the reverse of [Store.SignBuild]; a retired image key is as
// good.
func (s *Store) VerifyBuild(data, sig []byte) (Statement, error) {
	var st Statement
	ring, err := s.o.Keys.past(s.key)
	if err == nil {
		st, err = s.verify(ring, data, sig, KindBuild)
	}
	if err != nil {
		return st, fault.Wrap(fault.Trust, fmt.Errorf("build statement: %w", err))
	}
	return st, nil
}

// Statement returns the verified statement with this hash, in force or
// retired, perhaps together with its key, or the original of an imported one:
// the next link from a published file towards the archive's key.
func (s *Store) Statement(ctx context.Context, hash string) (Statement, error) {
	if !isHash(hash) {
		return Statement{}, fault.New(fault.Usage, "%q is no statement hash", hash)
	}
	path := s.statementPath(hash)
	if _, err := os.Lstat(path); err == nil {
		return s.loadStatement(path, hash, "")
	}
	ring, err := s.o.Keys.past(s.key)
	if err != nil {
		return Statement{}, err
	}
	return s.loadSigned(ring, s.retiredPath(hash), hash, "")
}

// isHash reports whether s is 64 lower-case hex digits, and so safe as a name.
func isHash(s string) bool {
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return len(s) == 64
}
