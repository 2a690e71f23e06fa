package kubelet

import (
	"errors"
	"math"
	"net"
	"slices"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCandidates(t *testing.T) {
	had := map[string]uint16{"east": 10351, "west": 10353}
	for name, row := range map[string]struct {
		node  string
		first uint16
		want  []uint16 // the beginning
	}{
		"a new node takes no port of others":      {"north", 10350, []uint16{10350, 10352, 10354}},
		"a node keeps its port":                   {"east", 10350, []uint16{10351, 10350, 10352}},
		"also when the first port is another now": {"east", 20000, []uint16{10351, 20000, 20001}},
		"ports end": {"north", math.MaxUint16, []uint16{math.MaxUint16}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []uint16
			for port := range candidates(row.first, had, row.node) {
				if got = append(got, port); len(got) == 3 {
					break
				}
			}
			if diff := cmp.Diff(row.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// TestPorts_Listen: ports in use are passed over, and any other error ends the search.
func TestPorts_Listen(t *testing.T) {
	used := []uint16{10350, 10351}
	var tried []uint16
	bind := func(port uint16) (net.Listener, error) {
		tried = append(tried, port)
		if slices.Contains(used, port) {
			return nil, &net.OpError{Op: "listen", Err: syscall.EADDRINUSE}
		}
		return nil, nil
	}
	p := newPorts(10350)
	p.keep("east", 10352)
	for _, row := range []struct {
		node string
		want uint16
	}{{"west", 10353}, {"east", 10352}, {"west", 10353}} {
		if _, got, err := p.listen(row.node, bind); err != nil || got != row.want {
			t.Errorf("node %s got port %d (%v), want %d; tried %v", row.node, got, err, row.want, tried)
		}
	}
	p.forget("east")
	if _, got, err := p.listen("north", bind); err != nil || got != 10352 {
		t.Errorf("got port %d (%v), want that of the node that is gone", got, err)
	}
	notHere := &net.OpError{Op: "listen", Err: syscall.EADDRNOTAVAIL}
	tries := 0
	_, _, err := p.listen("south", func(uint16) (net.Listener, error) { tries++; return nil, notHere })
	if !errors.Is(err, syscall.EADDRNOTAVAIL) || tries != 1 {
		t.Errorf("%d tries with an address of another machine: %v", tries, err)
	}
}
