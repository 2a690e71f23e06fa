package kubelet

import (
	"errors"
	"fmt"
	"iter"
	"math"
	"net"
	"sync"
	"syscall"
)

// ports says which virtual node has which port. Safe for concurrent use.
type ports struct {
	first uint16

	mu sync.Mutex
	of map[string]uint16 // guarded by mu; by node
}

func newPorts(first uint16) *ports { return &ports{first: first, of: map[string]uint16{}} }

// keep notes the port that a node has had, so that it gets it again and no other node takes it before.
func (p *ports) keep(node string, port uint16) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.of[node] = port
}

// forget lets others have the port of a node that is gone.
func (p *ports) forget(node string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.of, node)
}

// listen opens the port of a node with bind: the first of its candidates that nobody else on this machine has.
func (p *ports) listen(node string, bind func(port uint16) (net.Listener, error)) (net.Listener, uint16, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for port := range candidates(p.first, p.of, node) {
		listener, err := bind(port)
		if err == nil {
			p.of[node] = port
			return listener, port, nil
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			return nil, 0, err
		}
	}
	return nil, 0, fmt.Errorf("no port from %d on is free", p.first)
}

// candidates are the ports to try for a node, best first: the one it has had, then all from first on but those of other nodes.
func candidates(first uint16, of map[string]uint16, node string) iter.Seq[uint16] {
	return func(yield func(uint16) bool) {
		own, taken := of[node], make(map[uint16]bool, len(of))
		for _, port := range of {
			taken[port] = true
		}
		if own != 0 && !yield(own) {
			return
		}
		for port := uint(first); port <= math.MaxUint16; port++ {
			if !taken[uint16(port)] && !yield(uint16(port)) {
				return
			}
		}
	}
}
