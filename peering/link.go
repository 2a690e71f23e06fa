package peering

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/transport"
	"k8s.io/client-go/util/connrotation"

	"github.com/spillway-dev/spillway/internal/live"
	"github.com/spillway-dev/spillway/peering/v1alpha1"
	peeringclient "github.com/spillway-dev/spillway/peering/v1alpha1/client"
)

const (
	probeEvery    = 5 * time.Second // while the peer answers
	probeAgain    = time.Second     // while it does not
	probeTimeout  = 3 * time.Second
	lostAfter     = 10 * time.Second // without an answer: the hysteresis of the virtual node
	watchdogEvery = 500 * time.Millisecond
)

// errCredentialMissing: the Secret that spec.api names is not there or has no token.
var errCredentialMissing = errors.New("credential missing")

// link is the consumer's way to one peer: client, credential, liveness, and the peer's own Peering for us.
type link struct {
	name     string
	endpoint v1alpha1.APIEndpoint
	renewal  string // the long-lived credential it was made with
	log      *zap.Logger
	note     func() // called when anything below may have changed; does not block

	access  *rest.Config // with the credential; never changed
	client  kubernetes.Interface
	dialer  *connrotation.Dialer // of client: its connections end when the peer is lost, and again when it is back
	streams *connrotation.Dialer // of access: logs and execs outlast an outage, as TCP does
	peering *live.Cache[*v1alpha1.Peering]
	cancel  context.CancelFunc
	wg      sync.WaitGroup

	mu        sync.Mutex
	started   time.Time         // guarded by mu
	answered  time.Time         // guarded by mu; zero before the first answer
	err       error             // guarded by mu; of the last probe
	lost      bool              // guarded by mu
	version   string            // guarded by mu; of the peer
	requested map[string]string // guarded by mu; the namespaces asked for, with their wishes; nil while not known
	address   string            // guarded by mu; of the peer's API server in the tunnel; empty while not known
	courier   courier
}

// dial makes a link and starts its probe and watch. It does not wait for the peer. The renewal credential is that of
// spec.api.secretName. End it with close.
func dial(ctx context.Context, p *v1alpha1.Peering, renewal string, log *zap.Logger, note func()) (*link, error) {
	ctx, cancel := context.WithCancel(ctx)
	l := &link{
		name: p.Name, endpoint: *p.Spec.API.DeepCopy(), renewal: renewal, log: log, note: note, cancel: cancel, started: time.Now(),
		address: apiAddress(&p.Spec), courier: newCourier(),
	}
	l.dialer, l.streams = connrotation.NewDialer(l.dialPeer), connrotation.NewDialer(l.dialPeer)
	bare := l.config()
	config, counted := rest.CopyConfig(bare), rest.CopyConfig(bare)
	measure(counted, p.Name)
	source := &tokens{ctx: ctx, config: counted, namespace: l.endpoint.TenantNamespace, renewal: renewal}
	config.WrapTransport = transport.ResettableTokenSourceWrapTransport(source)
	l.access = rest.CopyConfig(config)
	l.access.Dial = l.streams.DialContext
	measure(config, p.Name)
	peerings, err := peeringclient.New(config)
	if err != nil {
		cancel()
		return nil, err
	}
	config.ContentType = runtime.ContentTypeProtobuf
	config.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	if l.client, err = kubernetes.NewForConfig(config); err != nil {
		cancel()
		return nil, fmt.Errorf("make client for peer %s: %w", p.Name, err)
	}
	l.peering = live.New(live.Options[*v1alpha1.Peering]{
		Name: "peering at " + p.Name,
		ListWatch: live.ListWatch(peerings, peerings, func(o *metav1.ListOptions) {
			o.FieldSelector = fields.OneTermEqualSelector("metadata.name", l.endpoint.PeeringName).String()
		}),
		Changed: func(_, _ *v1alpha1.Peering) { note() },
	})
	l.wg.Go(func() { l.probe(ctx) })
	l.wg.Go(func() { l.watchdog(ctx) })
	l.wg.Go(func() { l.follow(ctx) })
	l.wg.Go(func() { l.deliver(ctx) })
	return l, nil
}

func (l *link) close() {
	l.cancel()
	l.dialer.CloseAll()
	l.streams.CloseAll()
	l.wg.Wait()
}

// same says whether a Peering still means this link.
func (l *link) same(api *v1alpha1.APIEndpoint) bool {
	return l.endpoint.Server == api.Server && bytes.Equal(l.endpoint.CABundle, api.CABundle) &&
		l.endpoint.SecretName == api.SecretName && l.endpoint.TenantNamespace == api.TenantNamespace &&
		l.endpoint.PeeringName == api.PeeringName && (l.endpoint.Via == v1alpha1.APIViaTunnel) == (api.Via == v1alpha1.APIViaTunnel)
}

// follow watches the peer's Peering, once the peer has answered a first time: until then every try would be an error
// that the probe reports better.
func (l *link) follow(ctx context.Context) {
	for {
		l.mu.Lock()
		answered := !l.answered.IsZero()
		l.mu.Unlock()
		if answered {
			l.peering.Run(ctx)
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(watchdogEvery / 5):
		}
	}
}

// probe asks the peer again and again whether it is there and knows us.
func (l *link) probe(ctx context.Context) {
	for ctx.Err() == nil {
		err := l.ask(ctx)
		l.answer(err, time.Now())
		wait := probeEvery
		if err != nil {
			wait = probeAgain
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

func (l *link) ask(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	l.mu.Lock()
	known := l.version != ""
	l.mu.Unlock()
	if known {
		return l.client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
	}
	var version struct{ GitVersion string }
	body, err := l.client.Discovery().RESTClient().Get().AbsPath("/version").
		SetHeader("Accept", runtime.ContentTypeJSON).Do(ctx).Raw()
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, &version); err != nil {
		return fmt.Errorf("read version of %s: %w", l.endpoint.Server, err)
	}
	l.mu.Lock()
	l.version = version.GitVersion
	l.mu.Unlock()
	return nil
}

// answer takes the result of a probe.
func (l *link) answer(err error, now time.Time) {
	l.mu.Lock()
	before, wasLost, first := l.err, l.lost, l.answered.IsZero()
	l.err = err
	if err == nil {
		l.answered, l.lost = now, false
	}
	l.mu.Unlock()
	if err == nil && wasLost {
		l.log.Info("peer answers again", zap.String("peer", l.name))
		l.dialer.CloseAll() // what was opened during the outage may hang for minutes
	}
	if (err == nil) != (before == nil) || first || wasLost && err == nil {
		l.note()
	}
}

// watchdog declares the peer lost when it has not answered for lostAfter, however long a probe hangs.
func (l *link) watchdog(ctx context.Context) {
	ticker := time.NewTicker(watchdogEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			if l.declareLost(now) {
				l.log.Info("peer lost", zap.String("peer", l.name), zap.String("server", l.server()), zap.Error(l.state().err))
				l.dialer.CloseAll()
				l.note()
			}
		}
	}
}

func (l *link) declareLost(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	last := l.answered
	if last.IsZero() {
		last = l.started
	}
	if l.lost || l.err == nil && now.Sub(last) < lostAfter+probeEvery || now.Sub(last) < lostAfter {
		return false
	}
	l.lost = true
	return true
}

// linkState is what is known of a peer. Plain values; objects are shared and must not be changed.
type linkState struct {
	started  time.Time
	last     time.Time // of the last answer; started before the first
	answered bool      // at least once
	lost     bool      // not for lostAfter
	err      error     // of the last probe
	version  string
	remote   *v1alpha1.Peering // the peer's Peering for us; nil while not known
}

func (l *link) state() linkState {
	l.mu.Lock()
	s := linkState{started: l.started, last: l.answered, answered: !l.answered.IsZero(), lost: l.lost, err: l.err, version: l.version}
	if !s.answered {
		s.last = s.started
	}
	l.mu.Unlock()
	s.remote, _ = l.peering.Get("", l.endpoint.PeeringName)
	return s
}

// unusable says whether there is no use in waiting for the peer: it is lost, it has not answered for some seconds
// after the start, or it does not let us in.
func (l *link) unusable(now time.Time) bool {
	s := l.state()
	l.mu.Lock()
	defer l.mu.Unlock()
	silent := s.err != nil && now.Sub(l.answered) > probeEvery+probeTimeout && now.Sub(l.started) > probeTimeout
	return s.lost || silent || apierrors.IsUnauthorized(s.err) || apierrors.IsForbidden(s.err)
}

// request asks the peer for tenant namespaces: exactly these, with what they wish to be called. It writes only what differs from what was asked before,
// and waits for the peer no longer than a probe does.
func (l *link) request(ctx context.Context, wanted map[string]string) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	l.mu.Lock()
	before := l.requested
	l.mu.Unlock()
	configMaps := l.client.CoreV1().ConfigMaps(l.endpoint.TenantNamespace)
	if before == nil {
		have, err := configMaps.Get(ctx, requestsConfigMap, metav1.GetOptions{})
		if err != nil {
			return fmt.Errorf("read the namespaces asked for at peer %s: %w", l.name, err)
		}
		before = have.Data
	}
	patch := requestPatch(before, wanted)
	if patch != nil {
		if _, err := configMaps.Patch(ctx, requestsConfigMap, types.MergePatchType, patch,
			metav1.PatchOptions{FieldManager: v1alpha1.FieldManager}); err != nil {
			return fmt.Errorf("ask peer %s for namespaces: %w", l.name, err)
		}
	}
	l.mu.Lock()
	l.requested = map[string]string{}
	maps.Copy(l.requested, wanted)
	l.mu.Unlock()
	return nil
}

// requestPatch is the JSON merge patch that turns the namespaces asked for into those wanted; nil when equal.
func requestPatch(before, wanted map[string]string) []byte {
	data := map[string]any{}
	for name, wish := range wanted {
		if had, asked := before[name]; !asked || had != wish {
			data[name] = wish
		}
	}
	for name := range before {
		if _, still := wanted[name]; !still {
			data[name] = nil
		}
	}
	if len(data) == 0 {
		return nil
	}
	patch, err := json.Marshal(map[string]any{"data": data})
	if err != nil {
		panic(err) // strings and nil always marshal
	}
	return patch
}

// renewalToken reads the long-lived credential that spec.api names.
func renewalToken(ctx context.Context, client kubernetes.Interface, api *v1alpha1.APIEndpoint) (string, error) {
	secret, err := client.CoreV1().Secrets(v1alpha1.SystemNamespace).Get(ctx, api.SecretName, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return "", fmt.Errorf("%w: there is no Secret %s/%s", errCredentialMissing, v1alpha1.SystemNamespace, api.SecretName)
	case err != nil:
		return "", fmt.Errorf("get Secret %s/%s: %w", v1alpha1.SystemNamespace, api.SecretName, err)
	case len(secret.Data[corev1.ServiceAccountTokenKey]) == 0:
		return "", fmt.Errorf("%w: Secret %s/%s has no key %s", errCredentialMissing, v1alpha1.SystemNamespace,
			api.SecretName, corev1.ServiceAccountTokenKey)
	}
	return string(secret.Data[corev1.ServiceAccountTokenKey]), nil
}
