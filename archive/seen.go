package archive

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Seen returns the highest Date that the copy in dir has accepted of each
// suite, by archive root and suite. It opens nothing for writing; a copy that
// is not there has seen nothing.
func Seen(dir string) (map[string]time.Time, error) {
	dates := map[string]time.Time{}
	entries, err := os.ReadDir(filepath.Join(dir, "suites"))
	if errors.Is(err, os.ErrNotExist) {
		return dates, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read archive records: %w", err)
	}
	for _, entry := range entries {
		var rec record
		data, err := readSmall(filepath.Join(dir, "suites", entry.Name()), 1<<16)
		if err != nil || json.Unmarshal(data, &rec) != nil || rec.Date.IsZero() {
			continue // Update says what is wrong with it
		}
		dates[rec.URL+" "+rec.Suite] = rec.Date
	}
	return dates, nil
}
