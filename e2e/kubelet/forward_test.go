package kubelet

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"
)

// forwarder is ready to forward local ports to ports of a pod until stop is closed.
func (e end) forwarder(protocol, pod string, ports []string, stop, ready chan struct{}, wrong io.Writer) (*portforward.PortForwarder, error) {
	u := e.url(pod, "portforward", &corev1.PodPortForwardOptions{})
	if protocol == webSocket {
		dialer, err := portforward.NewSPDYOverWebsocketDialer(u, e.config)
		if err != nil {
			return nil, err
		}
		return portforward.New(dialer, ports, stop, ready, io.Discard, wrong)
	}
	transport, upgrader, err := spdy.RoundTripperFor(e.config)
	if err != nil {
		return nil, err
	}
	return portforward.New(spdy.NewDialer(upgrader, &http.Client{Transport: transport}, "POST", u), ports, stop, ready, io.Discard, wrong)
}

func (w *world) portForward(t *testing.T) {
	for _, protocol := range protocols() {
		t.Run(protocol, func(t *testing.T) { w.forwarded(t, protocol) })
	}
}

// forwarded: 50 connections at once and one with a lot to carry, each to the port that was asked for.
func (w *world) forwarded(t *testing.T, protocol string) {
	stop, ready := make(chan struct{}), make(chan struct{})
	var wrong watched
	f, err := w.home.forwarder(protocol, "network", []string{"0:7", "0:8080"}, stop, ready, &wrong)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- f.ForwardPorts() }()
	defer func() {
		close(stop)
		if err := ended(done, soon); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Log(wrong.String())
		}
	}()
	select {
	case <-ready:
	case err := <-done:
		t.Fatal(err)
	}
	ports, err := f.GetPorts()
	if err != nil {
		t.Fatal(err)
	}
	echo, web := fmt.Sprintf("127.0.0.1:%d", ports[0].Local), fmt.Sprintf("127.0.0.1:%d", ports[1].Local)
	var g errgroup.Group
	for i := range 50 {
		g.Go(func() error { return echoed(t.Context(), echo, int64(1000+i*1000)) })
	}
	g.Go(func() error { return echoed(t.Context(), echo, 32<<20) })
	g.Go(func() error { return answers(t.Context(), "http://"+web+"/healthz", "ok\n") })
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
}

// echoed sends bytes, ends writing, and wants the same back.
func echoed(ctx context.Context, addr string, size int64) error {
	ctx, cancel := context.WithTimeout(ctx, 2*soon)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	var g errgroup.Group
	sent, got := sha256.New(), sha256.New()
	g.Go(func() error {
		if _, err := io.CopyN(io.MultiWriter(conn, sent), noise(), size); err != nil {
			return err
		}
		return conn.(*net.TCPConn).CloseWrite()
	})
	g.Go(func() error {
		n, err := io.Copy(got, conn)
		if err == nil && n != size {
			err = fmt.Errorf("%d bytes of %d came back", n, size)
		}
		return err
	})
	if err := g.Wait(); err != nil {
		return err
	}
	if !bytes.Equal(sent.Sum(nil), got.Sum(nil)) {
		return errors.New("other bytes came back")
	}
	return nil
}

func answers(ctx context.Context, url, want string) error {
	client := http.Client{Timeout: soon, Transport: &http.Transport{DisableKeepAlives: true}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	got, err := io.ReadAll(response.Body)
	if err == nil && string(got) != want {
		err = fmt.Errorf("%s answers %q", url, got)
	}
	return err
}
