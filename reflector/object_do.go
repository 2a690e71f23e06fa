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

// objectPair is one object, here and at the peer. The zero value of T stands for absent.
type objectPair[T live.Object] struct {
	objectKind[T]
	local      T     // at home
	want, have T     // the wanted twin and the twin there is
	leave      bool  // nothing is to be done
	err        error // why nothing can be done
}

// planObject decides the one next step for a reflected object: none, create, patch (by update) or delete twin.
func planObject[T live.Object](o objectPair[T]) stepKind {
	var none T
	switch {
	case o.leave, o.err != nil, o.want == none && o.have == none:
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
	return p.home.loops[k.kind].sync(ctx, s, k)
}

// doObject performs the one step of a reflected object.
func doObject[T live.Object](ctx context.Context, s *space, k key, o objectPair[T]) (time.Duration, error) {
	err := o.err
	p, client := s.pair, o.client(s.pair.cfg.Remote, s.remote)
	todo := planObject(o)
	if todo != stepCreate {
		p.forgetMade(k)
	} else if p.madeLately(k) {
		return echoWithin, nil
	}
	switch todo {
	case stepCreate:
		_, err = client.Create(ctx, o.want, metav1.CreateOptions{FieldManager: fieldManager})
		if apierrors.IsAlreadyExists(err) {
			err = ownObject(ctx, client, k.name, p.home.cfg.Origin)
		}
		if err == nil {
			p.noteMade(k)
		}
	case stepPatch:
		o.want.SetUID(o.have.GetUID())
		o.want.SetResourceVersion(o.have.GetResourceVersion())
		if o.keep != nil {
			o.keep(o.want, o.have)
		}
		_, err = client.Update(ctx, o.want, metav1.UpdateOptions{FieldManager: fieldManager})
	case stepDeleteTwin:
		err = client.Delete(ctx, k.name, metav1.DeleteOptions{
			Preconditions: metav1.NewUIDPreconditions(string(o.have.GetUID())),
		})
		if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
			err = nil
		}
	}
	p.steppedObject(k, todo, err)
	if err == nil {
		p.noteTaken(k, "")
		return 0, nil
	}
	err = fmt.Errorf("%s %s %s/%s on %s: %w", todo, k.kind, k.namespace, k.name, p.cfg.Node, err)
	if reason, refused := refusalReason(err); refused && (!mayPass(err) || p.home.queue.NumRequeues(k) >= quickRetries) {
		words := fmt.Sprintf("%s %s cannot follow to %s: %s", k.kind, k.name, p.cfg.Node, s.words(err))
		var none T
		if p.noteTaken(k, words) && (o.byItself || o.own != nil) && o.local != none {
			p.home.cfg.Events.Event(o.local, corev1.EventTypeWarning, reason, words)
		}
		return retryRefused, nil
	}
	return 0, err
}

// ownObject is called when a name is taken: it returns nil when the object is ours, which the cache does not show yet, and errForeign
// when it is another's.
func ownObject[T live.Object](ctx context.Context, client objectClient[T], name, origin string) error {
	have, err := client.Get(ctx, name, metav1.GetOptions{})
	if err == nil && have.GetLabels()[translate.LabelOrigin] != origin {
		return errForeign
	}
	return err
}

// noteTaken keeps why an object cannot follow, so that its pods can say so; empty words clear it. It says whether that
// is news.
func (p *Pair) noteTaken(k key, words string) (news bool) {
	p.mu.Lock()
	before := p.taken[k]
	if words == "" {
		delete(p.taken, k)
	} else {
		p.taken[k] = words
	}
	p.mu.Unlock()
	if before == words {
		return false
	}
	for _, pod := range p.users(k.kind, k.namespace, k.name) {
		p.home.queue.Add(p.podKey(pod.Namespace, pod.Name))
	}
	return true
}
