package joined

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestMatrix: pods of three clusters with equal and partly overlapping ranges reach each other as far as they may, from
// gateways and ordinary nodes, by TCP, UDP and ICMP, small and large, and each sees the other 1:1.
func TestMatrix(t *testing.T) {
	w := theWorld(t)
	ns := w.namespace(t, "home", "west", "far")
	home := w.pods(t, ns, "home", "", 2)
	cells := 0
	for _, provider := range []string{west, far} {
		away := w.pods(t, ns, provider, provider, 2)
		for _, h := range home {
			for _, a := range away {
				w.meet(t, h, a)
				for _, proto := range []string{"tcp", "udp", "icmp"} {
					for _, size := range []int{10, 3000} {
						cells += 2
						w.cell(t, h, call{Proto: proto, To: netip.AddrPortFrom(a.addr, podPort), Size: size}, w.seen(t, provider, east, h.addr))
						w.cell(t, a, call{Proto: proto, To: netip.AddrPortFrom(w.seen(t, provider, east, h.addr), podPort), Size: size}, a.addr)
					}
				}
			}
			svc, err := w.sides[east].kube.CoreV1().Services(ns).Get(t.Context(), provider, metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			cells += 2
			service := call{Proto: "tcp", To: netip.AddrPortFrom(netip.MustParseAddr(svc.Spec.ClusterIP), podPort), Size: 3000}
			eventually(t, soon, "the Service has reached "+h.node, func(context.Context) error {
				if a := h.call(service); a.Error != "" {
					return errors.New(a.Error)
				}
				return nil
			})
			w.cell(t, h, service, w.seen(t, provider, east, h.addr))
			w.apiServer(t, h, provider)
		}
	}
	t.Logf("%d cells over equal and partly overlapping ranges of three clusters", cells)
}

// opened waits until all filters have heard of the pods: their addresses come by way of the API servers.
func (w *world) opened(t *testing.T, home, away []*caller) {
	t.Helper()
	done := false
	defer func() {
		if !done {
			t.Log(w.explain()) // while the pods are there
		}
	}()
	for _, h := range home {
		for _, a := range away {
			eventually(t, soon, h.pod+" on "+h.node+" reaches "+a.pod, func(context.Context) error {
				if r := h.call(call{Proto: "tcp", To: netip.AddrPortFrom(a.addr, podPort), Size: 10}); r.Error != "" {
					return fmt.Errorf("%s → %s: %s", h.pod, a.pod, r.Error)
				}
				return nil
			})
		}
	}
	done = true
}

func (w *world) cell(t *testing.T, from *caller, what call, source netip.Addr) {
	t.Helper()
	want := source.String()
	if what.Proto == "icmp" {
		want = "echo"
	}
	if got := from.call(what); got.Source != want {
		t.Errorf("%s on %s → %s by %s, %d bytes: %q %s, want %s", from.pod, from.node, what.To, what.Proto, what.Size, got.Source, got.Error, want)
	}
}

// apiServer asks the peer's API server for its version, through the tunnel, from the network of a pod's node.
func (w *world) apiServer(t *testing.T, from *caller, provider string) {
	t.Helper()
	p, err := w.sides[east].peerings.Get(t.Context(), provider, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	addr, err := netip.ParseAddrPort(p.Status.Tunnel.APIAddress)
	if err != nil {
		t.Fatalf("status.tunnel.apiAddress: %v", err)
	}
	if a := from.call(call{Proto: "https", To: addr}); !strings.Contains(a.Source, "gitVersion") && !strings.Contains(a.Source, "Unauthorized") {
		t.Errorf("%s → API server of %s at %s: %q %s", from.pod, provider, addr, a.Source, a.Error)
	}
}

// https asks for /version; nobody's certificate is checked here.
func (c call) https() answered {
	client := http.Client{Timeout: 3 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	resp, err := client.Get("https://" + c.To.String() + "/version")
	if err != nil {
		return answered{Error: err.Error()}
	}
	defer resp.Body.Close()
	body := make([]byte, 4096)
	n, _ := resp.Body.Read(body)
	return answered{Source: string(body[:n])}
}

// TestIsolation: what is not opened does not answer, and is counted.
func TestIsolation(t *testing.T) {
	w := theWorld(t)
	ns := w.namespace(t, "away", "open")
	home := w.pods(t, ns, "closed", "", 2) // endpoints of no Service
	away := w.pods(t, ns, "away", west, 1)
	w.opened(t, home, away)
	var tried []string
	try := func(from *caller, proto string, to netip.AddrPort) {
		tried = append(tried, to.String())
		if a := from.call(call{Proto: proto, To: to, Size: 10, Brief: true}); a.Error == "" {
			t.Errorf("%s reaches %s by %s", from.pod, to, proto)
		}
	}
	for _, h := range home { // a pod of home that no Service names
		for _, proto := range []string{"tcp", "udp", "icmp"} {
			try(away[0], proto, netip.AddrPortFrom(w.seen(t, west, east, h.addr), podPort))
		}
	}
	for _, node := range w.sides[west].nodes { // the kubelets, SSH and agents of the provider's nodes
		n, err := w.sides[west].kube.CoreV1().Nodes().Get(t.Context(), node, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, port := range []uint16{22, 10250, 9640} {
			try(home[0], "tcp", netip.AddrPortFrom(w.seen(t, east, west, netip.MustParseAddr(n.Status.Addresses[0].Address)), port))
		}
	}
	first := away[0].addr // neighbours of the twin
	for range 5 {
		first = first.Next()
		try(home[0], "icmp", netip.AddrPortFrom(first, 0))
	}
	refused := uint64(0)
	for _, node := range append(w.sides[west].nodes, w.sides[east].nodes...) {
		r, err := w.report(t.Context(), node)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range r.Tunnel.Refused {
			refused += c.Packets
		}
	}
	if refused == 0 {
		t.Error("nothing was counted as refused")
	}
	t.Logf("%d closed addresses and ports tried, none answers; %d packets counted as refused", len(tried), refused)
}
