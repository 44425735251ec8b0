package archive

import "time"

// Quick makes the limits of a copy short enough for tests.
func (c *Copy) Quick() *Copy {
	c.client.limits = limits{
		header:  500 * time.Millisecond,
		idle:    500 * time.Millisecond,
		rate:    1000,
		window:  300 * time.Millisecond,
		backoff: []time.Duration{time.Millisecond, time.Millisecond, time.Millisecond},
		update:  []time.Duration{10 * time.Millisecond, 10 * time.Millisecond},
	}
	return c
}

// Rebooted makes c believe that the machine started just now.
func (c *Copy) Rebooted() { c.boot = time.Now().Add(time.Millisecond) }

// IndexPath is where the copy keeps an index.
func (c *Copy) IndexPath(sha256 string) string { return c.indexPath(sha256) }

// SlowUpdates leaves a mirror more time between two questions.
func (c *Copy) SlowUpdates() {
	c.client.limits.update = []time.Duration{30 * time.Millisecond, 100 * time.Millisecond}
}
