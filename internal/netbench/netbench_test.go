package netbench

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// serve runs a server on loopback until the test ends.
func serve(t *testing.T) netip.AddrPort {
	ctx, cancel := context.WithCancel(t.Context())
	server, err := Listen(ctx, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return server.Addr()
}

func TestRun_MeasuresEverything(t *testing.T) {
	got, err := Run(t.Context(), Options{Target: serve(t), Duration: 100 * time.Millisecond, Count: 50})
	if err != nil {
		t.Fatal(err)
	}
	if got.UpBitsPerSecond < 1e6 || got.DownBitsPerSecond < 1e6 {
		t.Errorf("throughput %g up, %g down", got.UpBitsPerSecond, got.DownBitsPerSecond)
	}
	for name, l := range map[string]Latency{"TCP": got.TCP, "UDP": got.UDP} {
		if l.Count != 50 || l.Lost != 0 || l.MedianMicros <= 0 || l.P99Micros < l.MedianMicros {
			t.Errorf("%s: %+v", name, l)
		}
	}
}

func TestRun_WaitsForTheServer(t *testing.T) {
	probe, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := probe.Addr().(*net.TCPAddr).AddrPort()
	probe.Close()
	done := make(chan error, 1)
	go func() {
		_, err := Run(t.Context(), Options{Target: address, Count: 1, Wait: time.Minute})
		done <- err
	}()
	server, err := Listen(t.Context(), address.String())
	if err != nil {
		t.Skip("somebody took the port meanwhile")
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx) }()
	if err := <-done; err != nil {
		t.Error(err)
	}
	cancel()
	<-served
}

func TestRun_NobodyThere(t *testing.T) {
	if _, err := Run(t.Context(), Options{Target: netip.MustParseAddrPort("127.0.0.1:1"), Count: 1}); err == nil {
		t.Error("no error without a server")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Run(ctx, Options{Target: serve(t), Count: 1, Wait: time.Hour}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want cancelled", err)
	}
}

// TestRun_LossIsCounted: a port where TCP echoes and UDP is swallowed.
func TestRun_LossIsCounted(t *testing.T) {
	sink, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		t.Fatal(err)
	}
	defer sink.Close()
	got, err := udpTrips(t.Context(), Options{Target: sink.LocalAddr().(*net.UDPAddr).AddrPort(), Count: 1})
	if diff := cmp.Diff(Latency{Count: 1, Lost: 1}, got); diff != "" || err != nil {
		t.Errorf("error %v (-want +got):\n%s", err, diff)
	}
}

func TestServer_ForeignersAreDropped(t *testing.T) {
	address := serve(t)
	conn, err := net.Dial("tcp", address.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("GET / HTTP/1.1\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	if n, err := conn.Read(make([]byte, 1)); err == nil {
		t.Errorf("%d bytes of an answer", n)
	}
}

func TestSummary(t *testing.T) {
	var took []time.Duration
	for i := 100; i > 0; i-- {
		took = append(took, time.Duration(i)*time.Millisecond)
	}
	want := Latency{Count: 102, Lost: 2, MedianMicros: 51000, P99Micros: 100000}
	if diff := cmp.Diff(want, summary(took, 2)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
