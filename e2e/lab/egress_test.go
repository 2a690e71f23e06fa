package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

// connect asks the proxy for an address, as an API server does.
func connect(t *testing.T, socket, address string) (net.Conn, *http.Response) {
	t.Helper()
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	fmt.Fprintf(conn, "CONNECT %s HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", address)
	answer, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: http.MethodConnect})
	if err != nil {
		t.Fatal(err)
	}
	return conn, answer
}

func TestEgress(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "egress.sock")
	far, end := net.Pipe()
	asked := make(chan string, 1)
	e, err := serveEgress(t.Context(), socket, func(_ context.Context, address string) (net.Conn, error) {
		if address != "10.0.0.1:443" {
			return nil, errors.New("nobody is there")
		}
		asked <- address
		return end, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, answer := connect(t, socket, "10.0.0.2:443"); answer.StatusCode != http.StatusBadGateway {
		t.Errorf("an address that cannot be dialled: %s", answer.Status)
	} else if words, _ := io.ReadAll(answer.Body); !strings.Contains(string(words), "nobody is there") {
		t.Errorf("the reason is not told: %q", words)
	}
	conn, answer := connect(t, socket, "10.0.0.1:443")
	if answer.StatusCode != http.StatusOK || <-asked != "10.0.0.1:443" {
		t.Fatalf("answer %s", answer.Status)
	}
	go func() { _, _ = io.WriteString(conn, "ping") }()
	got := make([]byte, 4)
	if _, err := io.ReadFull(far, got); err != nil || string(got) != "ping" {
		t.Errorf("got %q: %v", got, err)
	}
	go func() { _, _ = io.WriteString(far, "pong") }()
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != "pong" {
		t.Errorf("got %q back: %v", got, err)
	}
	e.close() // waits for those who serve
	if _, err := far.Read(got); !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("the connection is still open: %v", err)
	}
}

func TestInClusterNeedsRealNodes(t *testing.T) {
	_, err := Options{Name: "x", InCluster: true, Clusters: DefaultClusters(1)}.withDefaults()
	if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "real node") {
		t.Errorf("got %v", err)
	}
}
