package gateway

import (
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"
)

// TestPool_ThirtyNodes says how long a pool of thirty takes to follow, and what a node costs. Both depend on the machine:
// all thirty share it here.
func TestPool_ThirtyNodes(t *testing.T) {
	if testing.Short() {
		t.Skip("takes its time")
	}
	names := []string{"g1", "g2", "g3"}
	for k := range 27 {
		names = append(names, fmt.Sprint("n", k))
	}
	n := newNetwork(t, names...)
	for _, name := range names {
		n.start(name, 2, make([]byte, 32))
	}
	same := func(_ string, p *Pool) bool {
		return len(p.Members()) == len(names) && held(p, anybody) && slices.Equal(p.Holders(), n.pools["g1"].Holders())
	}
	t.Log("all together after", n.await("all together", names, same))
	begin, cpu := time.Now(), cpuTime(t)
	<-time.After(3 * time.Second)
	t.Logf("a node costs %.2f %% of a core", 100*(cpuTime(t)-cpu).Seconds()/time.Since(begin).Seconds()/float64(len(names)))
	old := n.pools["g1"].Holders()[0]
	alive := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return name == old.Node })
	n.cut(-1, old.Node)
	t.Log("another holder known to all after", n.await("another holder", alive, func(_ string, p *Pool) bool {
		return held(p, func(_ int, h Holder) bool { return h.Node != old.Node })
	}))
}

func cpuTime(t *testing.T) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
