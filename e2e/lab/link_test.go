package lab

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// echo is a server that sends back what it gets, behind a Link.
func echo(t *testing.T) *Link {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	l, err := newLink(context.Background(), "127.0.0.1", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.close)
	return l
}

func dial(t *testing.T, l *Link) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", l.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// trip sends a byte there and back.
func trip(c net.Conn, timeout time.Duration) (time.Duration, error) {
	begun := time.Now()
	_ = c.SetDeadline(begun.Add(timeout))
	if _, err := c.Write([]byte("x")); err != nil {
		return 0, err
	}
	_, err := io.ReadFull(c, make([]byte, 1))
	return time.Since(begun), err
}

func TestLink_Slow(t *testing.T) {
	l := echo(t)
	c := dial(t, l)
	if took, err := trip(c, time.Second); err != nil || took > 90*time.Millisecond {
		t.Errorf("fast: %s, %v", took, err)
	}
	if err := l.Slow(100 * time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if took, err := trip(c, 3*time.Second); err != nil || took < 100*time.Millisecond {
		t.Errorf("an open connection on a slow link: %s, %v", took, err)
	}
	if took, err := trip(dial(t, l), 3*time.Second); err != nil || took < 200*time.Millisecond {
		t.Errorf("a new connection on a slow link, first trip: %s, %v", took, err)
	}
	if err := l.Restore(); err != nil {
		t.Fatal(err)
	}
	if took, err := trip(c, time.Second); err != nil || took > 90*time.Millisecond {
		t.Errorf("restored: %s, %v", took, err)
	}
	if err := l.Slow(-1); err == nil {
		t.Error("a negative round trip time was taken")
	}
}

// TestLink_SlowIsWide: delay must not limit how much passes at a time.
func TestLink_SlowIsWide(t *testing.T) {
	l := echo(t)
	if err := l.Slow(100 * time.Millisecond); err != nil {
		t.Fatal(err)
	}
	c := dial(t, l)
	sent := bytes.Repeat([]byte("0123456789abcdef"), 2<<20) // 32 MiB
	begun := time.Now()
	go func() {
		_, _ = c.Write(sent)
		_ = c.(*net.TCPConn).CloseWrite()
	}()
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, sent) {
		t.Fatalf("got %d of %d bytes, equal %v: %v", len(got), len(sent), bytes.Equal(got, sent), err)
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("32 MiB there and back took %s", took)
	}
}

func TestLink_Refuse(t *testing.T) {
	l := echo(t)
	c := dial(t, l)
	if _, err := trip(c, time.Second); err != nil {
		t.Fatal(err)
	}
	if err := l.Cut(Refuse); err != nil {
		t.Fatal(err)
	}
	if _, err := trip(c, time.Second); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("open connection: %v, want it closed", err)
	}
	if _, err := net.Dial("tcp", l.Addr()); err == nil {
		t.Error("a new connection was taken")
	}
	if got := l.State().Cut; got != Refuse {
		t.Errorf("state: %q", got)
	}
	if err := l.Restore(); err != nil {
		t.Fatal(err)
	}
	if _, err := trip(dial(t, l), time.Second); err != nil {
		t.Errorf("restored: %v", err)
	}
}

func TestLink_Blackhole(t *testing.T) {
	l := echo(t)
	c := dial(t, l)
	if _, err := trip(c, time.Second); err != nil {
		t.Fatal(err)
	}
	if err := l.Cut(Blackhole); err != nil {
		t.Fatal(err)
	}
	for name, conn := range map[string]net.Conn{"open": c, "new": dial(t, l)} {
		if _, err := trip(conn, 100*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s connection: %v, want nothing to come", name, err)
		}
	}
	if err := l.Restore(); err != nil {
		t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(time.Second))
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Errorf("what was sent into the black hole: %v, want it to come after all", err)
	}
	if err := l.Cut("half"); err == nil {
		t.Error("an unknown way to cut was taken")
	}
}

// TestLink_CutChanges: from a black hole to refusing and back.
func TestLink_CutChanges(t *testing.T) {
	l := echo(t)
	for _, mode := range []CutMode{Blackhole, Refuse, Refuse, Blackhole, Blackhole} {
		if err := l.Cut(mode); err != nil {
			t.Fatal(err)
		}
	}
	c := dial(t, l)
	if err := l.Restore(); err != nil {
		t.Fatal(err)
	}
	if _, err := trip(c, time.Second); err != nil {
		t.Error(err)
	}
}
