package lock_test

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"dbuild/internal/fault"
	"dbuild/internal/lock"
)

func TestExclusiveKeepsOthersOut(t *testing.T) {
	path := filepath.Join(t.TempDir(), "l")
	first, err := lock.Acquire(t.Context(), path, lock.Exclusive, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok, err := lock.TryAcquire(path, lock.Shared); ok || err != nil {
		t.Fatalf("a second lock was had: %v, %v", ok, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if _, err := lock.Acquire(ctx, path, lock.Exclusive, nil); fault.ClassOf(err) != fault.Locked {
		t.Errorf("waiting past the deadline: %v, class %s", err, fault.ClassOf(err))
	}
	if err := first.Unlock(); err != nil {
		t.Fatal(err)
	}
	if err := first.Unlock(); err != nil {
		t.Errorf("second Unlock: %v", err)
	}
	again, ok, err := lock.TryAcquire(path, lock.Exclusive)
	if !ok || err != nil {
		t.Fatalf("the lock is not free: %v", err)
	}
	defer again.Unlock()
}

func TestSharedLocksTogether(t *testing.T) {
	path := filepath.Join(t.TempDir(), "l")
	for range 2 {
		l, ok, err := lock.TryAcquire(path, lock.Shared)
		if !ok || err != nil {
			t.Fatal(ok, err)
		}
		defer l.Unlock()
	}
	if _, ok, _ := lock.TryAcquire(path, lock.Exclusive); ok {
		t.Error("an exclusive lock beside shared ones")
	}
}

func TestWaiterGetsTheLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "l")
	first, err := lock.Acquire(t.Context(), path, lock.Exclusive, nil)
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(20*time.Millisecond, func() { _ = first.Unlock() })
	second, err := lock.Acquire(t.Context(), path, lock.Exclusive, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Unlock()
}
