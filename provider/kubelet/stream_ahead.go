package kubelet

import (
	"errors"
	"io"
	"sync"
)

const (
	// aheadPiece is what is read at a time, that of a TLS record; aheadMost what may wait.
	aheadPiece = 16 << 10
	aheadMost  = 64 << 10
)

// errClosed: the reader wants no more.
var errClosed = errors.New("closed")

// readAhead reads on while what it read is being written. An API server sends a log in pieces as small as lines; what came
// meanwhile goes on as one, which a fast log needs and a slow one does not notice.
type readAhead struct {
	body io.ReadCloser
	done chan struct{}

	mu      sync.Mutex
	changed sync.Cond // on mu
	waiting []byte    // guarded by mu; read and not yet taken
	err     error     // guarded by mu; after waiting, nothing comes but this
}

// newReadAhead owns body; its Close ends everything.
func newReadAhead(body io.ReadCloser) *readAhead {
	a := &readAhead{body: body, done: make(chan struct{})}
	a.changed.L = &a.mu
	go a.run()
	return a
}

func (a *readAhead) run() {
	defer close(a.done)
	piece := make([]byte, aheadPiece)
	for {
		n, err := a.body.Read(piece)
		if !a.put(piece[:n], err) {
			return
		}
	}
}

// put waits until there is room. False: that was all.
func (a *readAhead) put(piece []byte, err error) (more bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for a.err == nil && len(a.waiting)+len(piece) > aheadMost {
		a.changed.Wait()
	}
	if a.err != nil {
		return false
	}
	a.waiting, a.err = append(a.waiting, piece...), err
	a.changed.Signal()
	return err == nil
}

// Read takes all that waits, as far as there is room for it.
func (a *readAhead) Read(b []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for len(a.waiting) == 0 && a.err == nil {
		a.changed.Wait()
	}
	if len(a.waiting) == 0 {
		return 0, a.err
	}
	n := copy(b, a.waiting)
	a.waiting = append(a.waiting[:0], a.waiting[n:]...)
	a.changed.Signal()
	return n, nil
}

// Close gives the body up and waits for its reader.
func (a *readAhead) Close() error {
	err := a.body.Close()
	a.mu.Lock()
	if a.err == nil {
		a.err = errClosed
	}
	a.changed.Broadcast()
	a.mu.Unlock()
	<-a.done
	return err
}
