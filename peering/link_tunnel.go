package peering

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"go.uber.org/zap"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// apiName is what the certificate of every API server speaks for, whatever its address is here.
const apiName = "kubernetes.default.svc"

// errNoAddress: the peer's API server is to be reached through the tunnel, and has no address there yet.
var errNoAddress = errors.New("the tunnel is down: the address of the peer's API server in it is not known yet")

// config is how the link reaches the peer's API server, without credential.
func (l *link) config() *rest.Config {
	c := &rest.Config{
		Host: l.endpoint.Server, TLSClientConfig: rest.TLSClientConfig{CAData: l.endpoint.CABundle},
		Dial: l.dialer.DialContext, QPS: -1, UserAgent: "spillwayd",
	}
	if l.endpoint.Via == v1alpha1.APIViaTunnel {
		c.Host, c.ServerName = "https://"+apiName, apiName
		c.Proxy = func(*http.Request) (*url.URL, error) { return nil, nil } // a proxy is not in the tunnel
	}
	return c
}

// dialPeer connects to the peer: straight, or to where its API server is in the tunnel now. There is no other way when
// that one is closed: who chose the tunnel has a reason not to go beside it.
func (l *link) dialPeer(ctx context.Context, network, to string) (net.Conn, error) {
	if l.endpoint.Via == v1alpha1.APIViaTunnel {
		l.mu.Lock()
		to = l.address
		l.mu.Unlock()
		if to == "" {
			return nil, errNoAddress
		}
	}
	return (&net.Dialer{Timeout: probeTimeout, KeepAlive: 10 * time.Second}).DialContext(ctx, network, to)
}

// through says where the peer's API server is in the tunnel. Connections to where it was before are closed.
func (l *link) through(address string) {
	l.mu.Lock()
	before := l.address
	l.address = address
	l.mu.Unlock()
	if before != address && before != "" && l.endpoint.Via == v1alpha1.APIViaTunnel {
		l.dialer.CloseAll()
		l.streams.CloseAll()
	}
}

// server names the peer's API server.
func (l *link) server() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return serverName(&l.endpoint, l.address)
}

func serverName(api *v1alpha1.APIEndpoint, address string) string {
	switch {
	case api.Via != v1alpha1.APIViaTunnel:
		return api.Server
	case address == "":
		return "the API server of the peer, through the tunnel,"
	}
	return "the API server of the peer, through the tunnel at " + address + ","
}

// courier carries this cluster's network to the peer.
type courier struct {
	mu     sync.Mutex
	letter []byte        // guarded by mu; what the peer is to know
	woken  chan struct{} // capacity 1
}

func newCourier() courier { return courier{woken: make(chan struct{}, 1)} }

// hand says what the peer is to know of this cluster's network. It does not block; the peer is written to when that is
// something else than it knows.
func (l *link) hand(network *v1alpha1.ClusterNetwork) {
	letter, err := json.Marshal(network)
	if err != nil {
		panic(err) // plain strings always marshal
	}
	l.courier.mu.Lock()
	same := string(letter) == string(l.courier.letter)
	l.courier.letter = letter
	l.courier.mu.Unlock()
	if same {
		return
	}
	select {
	case l.courier.woken <- struct{}{}:
	default:
	}
}

// lookAfterLetter is how often the peer is asked whether it still has the letter.
const lookAfterLetter = 5 * time.Minute

// deliver carries each letter to the peer, until ctx ends. It retries for ever, ever more slowly.
func (l *link) deliver(ctx context.Context) {
	const first, last = time.Second, time.Minute
	again := time.NewTimer(last)
	again.Stop()
	wait := first
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.courier.woken:
			wait = first
		case <-again.C:
		}
		l.courier.mu.Lock()
		letter := string(l.courier.letter)
		l.courier.mu.Unlock()
		if err := l.write(ctx, letter); err != nil {
			if ctx.Err() == nil {
				l.log.Warn("own network not handed to the peer", zap.String("peer", l.name), zap.Error(err))
			}
			again.Reset(wait)
			wait = min(2*wait, last)
			continue
		}
		wait = first
		again.Reset(lookAfterLetter)
	}
}

// write puts the letter where the peer looks for it, unless it is there.
func (l *link) write(ctx context.Context, letter string) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	configMaps := l.client.CoreV1().ConfigMaps(l.endpoint.TenantNamespace)
	have, err := configMaps.Get(ctx, networkConfigMap, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("read what peer %s knows of our network: %w", l.name, err)
	}
	if have.Data[networkKey] == letter {
		return nil
	}
	patch, err := json.Marshal(map[string]any{"data": map[string]string{networkKey: letter}})
	if err != nil {
		return err
	}
	if _, err := configMaps.Patch(ctx, networkConfigMap, types.MergePatchType, patch,
		metav1.PatchOptions{FieldManager: v1alpha1.FieldManager}); err != nil {
		return fmt.Errorf("tell peer %s of our network: %w", l.name, err)
	}
	return nil
}
