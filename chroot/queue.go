package chroot

import (
	"context"
	"sync"
)

// queue hands the packages that have arrived to the unpacking workers.
//
// Seeds come first; until all of them are unpacked a worker without a seed
// takes the smallest package there is, which is decompressed in Go, because a
// large one is better left to the container's xz. After that the early group
// comes before the late one, and the largest first. Packages of the late group
// with triggers are held back until [queue.unhold].
type queue struct {
	mu    sync.Mutex
	cond  *sync.Cond
	open  bool // the root has its skeleton
	free  bool // nothing is held back any more
	ready []*member
	left  int // members not yet taken
	seeds int // seeds not yet unpacked
	early int // members of the early group not yet unpacked
	err   error
}

func newQueue(members []*member) *queue {
	q := &queue{left: len(members)}
	q.cond = sync.NewCond(&q.mu)
	for _, m := range members {
		if m.seed {
			q.seeds++
		}
		if m.early {
			q.early++
		}
	}
	return q
}

// watch makes every wait end when ctx does, until stop is called.
func (q *queue) watch(ctx context.Context) (stop func() bool) {
	return context.AfterFunc(ctx, func() { q.change(func() { q.err = ctx.Err() }) })
}

// change applies fn and wakes everybody.
func (q *queue) change(fn func()) {
	q.mu.Lock()
	fn()
	q.mu.Unlock()
	q.cond.Broadcast()
}

// add makes m, whose control part has been read, available.
func (q *queue) add(m *member) { q.change(func() { q.ready = append(q.ready, m) }) }

// release lets the workers begin; unhold gives out what was held back.
func (q *queue) release() { q.change(func() { q.open = true }) }
func (q *queue) unhold()  { q.change(func() { q.free = true }) }

// done tells that m is unpacked.
func (q *queue) done(m *member) {
	q.change(func() {
		if m.seed {
			q.seeds--
		}
		if m.early {
			q.early--
		}
	})
}

// waitEarly waits until the early group is unpacked; false if the queue ended
// before that.
func (q *queue) waitEarly() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.err == nil && q.early > 0 {
		q.cond.Wait()
	}
	return q.early == 0
}

// next waits for a package. It returns nil when there are no more. seeded
// tells whether the seeds are all in place.
func (q *queue) next() (m *member, seeded bool, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for {
		if q.err != nil || q.left == 0 {
			return nil, false, q.err
		}
		if m := q.take(); m != nil {
			return m, q.seeds == 0, nil
		}
		q.cond.Wait()
	}
}

// take removes the best package that may be unpacked now, nil if there is none.
func (q *queue) take() *member {
	best := -1
	for i, m := range q.ready {
		if q.open && (q.free || !m.held()) && (best < 0 || q.before(m, q.ready[best])) {
			best = i
		}
	}
	if best < 0 {
		return nil
	}
	m := q.ready[best]
	q.ready = append(q.ready[:best], q.ready[best+1:]...)
	if q.left--; q.left == 0 {
		q.cond.Broadcast()
	}
	return m
}

func (q *queue) before(a, b *member) bool {
	switch {
	case a.seed != b.seed:
		return a.seed
	case q.seeds > 0 && !a.seed:
		return a.Size < b.Size
	case a.early != b.early:
		return a.early
	}
	return a.Size > b.Size
}

// held reports whether m may only be unpacked when the early group is
// configured.
func (m *member) held() bool {
	_, triggers := m.control.ControlFiles["triggers"]
	return triggers && !m.early
}
