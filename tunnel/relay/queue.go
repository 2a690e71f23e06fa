package relay

import (
	"sync"
	"sync/atomic"
)

// queueLength bounds what waits for the stream, in datagrams: about 40 ms at 100 Mb/s. A longer queue only adds delay;
// the TCP inside the tunnel adapts to what is dropped.
const queueLength = 384

// queue holds datagrams on their way into a stream. When it is full the oldest are dropped: the newest handshake is the
// one that counts. Safe for concurrent use.
type queue struct {
	c       chan []byte
	pool    sync.Pool
	dropped atomic.Uint64
}

func newQueue() *queue {
	return &queue{c: make(chan []byte, queueLength), pool: sync.Pool{New: func() any { return new([maxDatagram]byte) }}}
}

// put copies a datagram into the queue. It does not block.
func (q *queue) put(datagram []byte) {
	buf := q.pool.Get().(*[maxDatagram]byte)
	held := buf[:copy(buf[:], datagram)]
	for {
		select {
		case q.c <- held:
			return
		default:
		}
		select {
		case oldest := <-q.c:
			q.dropped.Add(1)
			q.free(oldest)
		default:
		}
	}
}

// free takes back what was received from c.
func (q *queue) free(held []byte) { q.pool.Put((*[maxDatagram]byte)(held[:maxDatagram])) }
