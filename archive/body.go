package archive

import (
	"bytes"
	"context"
	"errors"
	"io"
	"time"
)

// guardedBody is the body of an answer under watch: a read that waits longer
// than the idle limit, a window of time in which less than the minimum rate
// came, and a web page in place of the file end it with a TransferError.
type guardedBody struct {
	body   io.ReadCloser
	limits limits
	cancel context.CancelCauseFunc // ends the request
	fail   func(error) error       // makes the TransferError

	begun bool          // the first bytes were looked at
	spent time.Duration // time spent reading in the current window
	got   int64         // bytes of the window
}

func (b *guardedBody) Read(p []byte) (int, error) {
	lim := b.limits
	watch := time.AfterFunc(lim.idle, func() { b.cancel(errStalled) })
	start := time.Now()
	n, err := b.body.Read(p)
	watch.Stop()
	b.spent += time.Since(start)
	if !b.begun && n > 0 {
		b.begun = true
		if looksLikeWebPage(p[:n]) {
			return 0, b.fail(errPortal)
		}
	}
	b.got += int64(n)
	if err == nil && b.spent >= lim.window {
		// Only time spent waiting for the network counts: a slow disk is not
		// the mirror's fault.
		if float64(b.got) < b.spent.Seconds()*float64(lim.rate) {
			b.cancel(errTooSlow)
			return n, b.fail(errTooSlow)
		}
		b.spent, b.got = 0, 0
	}
	switch {
	case err == nil, err == io.EOF:
		return n, err
	case errors.Is(err, io.ErrUnexpectedEOF):
		return n, b.fail(errTruncated)
	}
	return n, b.fail(err)
}

// Close ends the request. What was not read is not waited for.
func (b *guardedBody) Close() error {
	b.cancel(nil)
	return b.body.Close()
}

// looksLikeWebPage recognises what hotel networks and broken proxies answer
// with. No file of an archive begins like that.
func looksLikeWebPage(head []byte) bool {
	head = bytes.TrimLeft(head[:min(len(head), 512)], " \t\r\n\ufeff")
	for _, tag := range []string{"<!doctype", "<html", "<head", "<?xml", "<script", "<meta"} {
		if len(head) >= len(tag) && bytes.EqualFold(head[:len(tag)], []byte(tag)) {
			return true
		}
	}
	return false
}
