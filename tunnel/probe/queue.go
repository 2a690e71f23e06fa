package probe

import (
	"container/heap"
	"net/netip"
	"time"
)

// entry is a target and what is known of it.
type entry struct {
	target  Target
	to      netip.AddrPort
	machine machine
	last    State // as of the last call of settle, without Since
	since   time.Time
	at      time.Duration // of the next tick
	index   int           // in the queue
}

func (e *entry) report() State {
	s := e.machine.state()
	s.Since = e.since
	return s
}

func (e *entry) family() int { return family(e.target.Local) }

// address appends messages to the target as packets.
func (e *entry) address(messages []message, out []packet) []packet {
	for _, m := range messages {
		out = append(out, packet{local: e.target.Local, remote: e.to, message: m})
	}
	return out
}

// family is 0 for IPv4, 1 for IPv6.
func family(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}

// queue holds all entries, the one that is due first at the front.
type queue []*entry

var _ heap.Interface = (*queue)(nil)

func (q queue) Len() int           { return len(q) }
func (q queue) Less(a, b int) bool { return q[a].at < q[b].at }

func (q queue) Swap(a, b int) {
	q[a], q[b] = q[b], q[a]
	q[a].index, q[b].index = a, b
}

// Push is for container/heap.
func (q *queue) Push(x any) {
	e := x.(*entry)
	e.index = len(*q)
	*q = append(*q, e)
}

// Pop is for container/heap.
func (q *queue) Pop() any {
	last := len(*q) - 1
	e := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	return e
}
