package cache

import (
	"context"
	"fmt"
)

// maxReusable is how many builds are remembered for reuse.
const maxReusable = 5000

func reuseKey(input string) string { return "reuse " + input }

// Reusable returns the id of the newest build that was remembered under an
// equal input, a SHA-256 in hex over all that its result depends on. A row that
// someone altered is dropped with a warning. What the id leads to is verified
// with [Store.VerifyBuild].
func (s *Store) Reusable(ctx context.Context, input string) (build string, ok bool) {
	return s.memo.get(ctx, reuseKey(input))
}

// PutReusable remembers a successful build. Without a database it does nothing.
func (s *Store) PutReusable(ctx context.Context, input, build string) error {
	if err := s.memo.put(ctx, reuseKey(input), build, false); err != nil || s.memo.db == nil {
		return err
	}
	_, err := s.memo.db.ExecContext(ctx, `DELETE FROM memo WHERE rowid IN
		(SELECT rowid FROM memo WHERE key >= 'reuse ' AND key < 'reuse!' ORDER BY rowid DESC LIMIT -1 OFFSET ?)`, maxReusable)
	if err != nil {
		return fmt.Errorf("prune memo: %w", err)
	}
	return nil
}

// AcceptsResult reports why a build's statement is not one that this run could
// have made; "" if it is.
func (p *Policy) AcceptsResult(st *Statement) string {
	if st.Suite != p.Suite || st.Arch != p.Arch || st.HostArch != p.HostArch {
		return fmt.Sprintf("it is of suite %q and architecture %q for %q", st.Suite, st.Arch, st.HostArch)
	}
	return p.refusesOrigin(st)
}
