package archive_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"dbuild/archive"
)

func TestSeen(t *testing.T) {
	dir := t.TempDir()
	if seen, err := archive.Seen(dir); err != nil || len(seen) > 0 {
		t.Errorf("no copy: %v, %v", seen, err)
	}
	if err := os.Mkdir(filepath.Join(dir, "suites"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"a.json": `{"url":"http://m/debian","suite":"sid","date":"2026-11-20T08:00:00Z"}`,
		"b.json": `{"url":`,
	} {
		if err := os.WriteFile(filepath.Join(dir, "suites", name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	seen, err := archive.Seen(dir)
	want := time.Date(2026, 11, 20, 8, 0, 0, 0, time.UTC)
	if err != nil || len(seen) != 1 || !seen["http://m/debian sid"].Equal(want) {
		t.Errorf("seen %v, %v", seen, err)
	}
}
