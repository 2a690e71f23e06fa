package reflector

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spillway-dev/spillway/internal/live"
	"github.com/spillway-dev/spillway/reflector/translate"
)

// objectClient is the part of a typed client that keeps a reflected object equal.
type objectClient[T any] interface {
	Create(context.Context, T, metav1.CreateOptions) (T, error)
	Update(context.Context, T, metav1.UpdateOptions) (T, error)
	Delete(context.Context, string, metav1.DeleteOptions) error
}

// objectPair is one ConfigMap or Secret, here and at the peer. The zero value of T stands for absent.
type objectPair[T live.Object] struct {
	want, have T // the wanted twin and the twin there is
	equal      func(want, have T) bool
	replace    func(want, have T) bool
	client     objectClient[T]
}

// planObject decides the one next step for a reflected object: none, create, patch (by update) or delete twin.
func planObject[T live.Object](o objectPair[T]) stepKind {
	var none T
	switch {
	case o.want == none && o.have == none:
		return stepNone
	case o.want == none:
		return stepDeleteTwin
	case o.have == none:
		return stepCreate
	case o.have.GetDeletionTimestamp() != nil || o.equal(o.want, o.have):
		return stepNone
	case o.replace(o.want, o.have):
		return stepDeleteTwin // made again when it is gone
	default:
		return stepPatch
	}
}

func (p *Pair) syncObject(ctx context.Context, k key) (time.Duration, error) {
	s := p.space(k.namespace)
	if s == nil || !s.ready.Load() || p.lost.Load() {
		return 0, nil // both come back through enqueueAll
	}
	used := len(p.users(k.kind, k.namespace, k.name)) > 0
	if k.kind == kindConfigMap {
		o := objectPair[*corev1.ConfigMap]{
			equal: translate.ConfigMapEqual, client: p.cfg.Remote.CoreV1().ConfigMaps(s.remote),
			replace: translate.ConfigMapReplace,
		}
		if local, ok := p.home.configMaps.Get(k.namespace, k.name); ok && used {
			o.want = translate.ConfigMap(local, s.env())
		}
		o.have, _ = s.configMaps.Get(s.remote, k.name)
		return doObject(ctx, p, k, o)
	}
	o := objectPair[*corev1.Secret]{
		equal: translate.SecretEqual, client: p.cfg.Remote.CoreV1().Secrets(s.remote),
		replace: translate.SecretReplace,
	}
	if local, ok := p.home.secrets.Get(k.namespace, k.name); ok && used {
		o.want = translate.Secret(local, s.env())
	}
	o.have, _ = s.secrets.Get(s.remote, k.name)
	return doObject(ctx, p, k, o)
}

// doObject performs the one step of a reflected object.
func doObject[T live.Object](ctx context.Context, p *Pair, k key, o objectPair[T]) (time.Duration, error) {
	var err error
	todo := planObject(o)
	switch todo {
	case stepCreate:
		_, err = o.client.Create(ctx, o.want, metav1.CreateOptions{FieldManager: fieldManager})
		if apierrors.IsAlreadyExists(err) {
			err = errForeign // ours would be in the cache, or will be when this is tried again
		}
	case stepPatch:
		o.want.SetUID(o.have.GetUID())
		o.want.SetResourceVersion(o.have.GetResourceVersion())
		_, err = o.client.Update(ctx, o.want, metav1.UpdateOptions{FieldManager: fieldManager})
	case stepDeleteTwin:
		err = o.client.Delete(ctx, k.name, metav1.DeleteOptions{
			Preconditions: metav1.NewUIDPreconditions(string(o.have.GetUID())),
		})
		if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
			err = nil
		}
	}
	if err == nil {
		p.noteTaken(k, "")
		return 0, nil
	}
	err = fmt.Errorf("%s %s %s/%s on %s: %w", todo, k.kind, k.namespace, k.name, p.cfg.Node, err)
	if _, refused := refusalReason(err); refused && p.home.queue.NumRequeues(k) >= quickRetries {
		p.noteTaken(k, fmt.Sprintf("%s %s cannot follow to %s: %s", k.kind, k.name, p.cfg.Node, rootMessage(err)))
		return retryRefused, nil
	}
	return 0, err
}

// noteTaken keeps why an object cannot follow, so that its pods can say so; empty words clear it.
func (p *Pair) noteTaken(k key, words string) {
	p.mu.Lock()
	before := p.taken[k]
	if words == "" {
		delete(p.taken, k)
	} else {
		p.taken[k] = words
	}
	p.mu.Unlock()
	if before != words {
		for _, pod := range p.users(k.kind, k.namespace, k.name) {
			p.home.queue.Add(p.podKey(pod.Namespace, pod.Name))
		}
	}
}

// missingReference names a ConfigMap or Secret of the pod that exists at home and has not reached the peer; empty when
// there is none. One that is missing at home too does not count: the twin's kubelet then shows the usual reason.
func (p *Pair) missingReference(s *space, local *corev1.Pod) string {
	configMaps, secrets := translate.References(&local.Spec)
	for _, name := range configMaps {
		_, here := p.home.configMaps.Get(local.Namespace, name)
		if _, there := s.configMaps.Get(s.remote, name); here && !there {
			return "ConfigMap " + name
		}
	}
	for _, name := range secrets {
		_, here := p.home.secrets.Get(local.Namespace, name)
		if _, there := s.secrets.Get(s.remote, name); here && !there {
			return "Secret " + name
		}
	}
	return ""
}

// takenReference says, in words, which reference of the pod the provider does not take; empty when there is none.
func (p *Pair) takenReference(local *corev1.Pod) string {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if len(p.taken) == 0 {
		return ""
	}
	configMaps, secrets := translate.References(&local.Spec)
	for kind, names := range map[kind][]string{kindConfigMap: configMaps, kindSecret: secrets} {
		for _, name := range names {
			if words := p.taken[key{p.cfg.Node, kind, local.Namespace, name}]; words != "" {
				return words
			}
		}
	}
	return ""
}
