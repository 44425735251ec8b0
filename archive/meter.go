package archive

import (
	"sync"
	"time"

	"dbuild/internal/report"
)

// meter adds up what several goroutines did and reports it now and then.
type meter struct {
	report report.Reporter
	label  string
	unit   report.Unit
	total  int64

	mu   sync.Mutex
	done int64
	said time.Time
}

// add counts n, which is negative for work that was lost.
func (m *meter) add(n int64) {
	m.mu.Lock()
	m.done += n
	now := time.Now()
	quiet := now.Sub(m.said) < 50*time.Millisecond
	if !quiet {
		m.said = now
	}
	p := report.Progress{Label: m.label, Unit: m.unit, Done: min(m.done, m.total), Total: m.total}
	m.mu.Unlock()
	if !quiet && p.Done < p.Total {
		m.report.Progress(p)
	}
}

// finish makes the last report; for no work at all it makes none.
func (m *meter) finish() {
	if m.total > 0 {
		m.report.Progress(report.Progress{Label: m.label, Unit: m.unit, Done: m.total, Total: m.total})
	}
}
