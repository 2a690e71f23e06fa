package reflector

import (
	"context"
	"fmt"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spillway-dev/spillway/reflector/translate"
)

// rootCA is the ConfigMap in every namespace that holds the certificate authority of the API server.
const rootCA = "kube-root-ca.crt"

// tokenIndex files local pods that mount tokens under namespace/name of their Secret at the peer.
func tokenIndex(obj any) ([]string, error) {
	pod := obj.(*corev1.Pod)
	if len(translate.Tokens(&pod.Spec)) == 0 {
		return nil, nil
	}
	return []string{pod.Namespace + "/" + translate.TokenSecretName(pod.UID)}, nil
}

// tokenUser is the local pod whose tokens a Secret of this name holds; nil when there is none.
func (p *Pair) tokenUser(namespace, name string) *corev1.Pod {
	for _, pod := range p.local.Index(string(kindToken), namespace+"/"+name) {
		return pod
	}
	return nil
}

// tokensMissing says whether the pod waits for its tokens.
func (s *space) tokensMissing(local *corev1.Pod) bool {
	return translate.TokensFollow(s.env()) && len(translate.Tokens(&local.Spec)) > 0 &&
		!s.copies[kindSecret].has(translate.TokenSecretName(local.UID))
}

// planTokens decides about the Secret with the tokens of a local pod. Either may be nil. renew says when to look again.
func planTokens(local *corev1.Pod, have *corev1.Secret, follow bool, now time.Time) (todo stepKind, again time.Duration) {
	switch {
	case local == nil && have == nil:
		return stepNone, 0
	case local == nil:
		return stepDeleteTwin, 0
	case !follow || terminal(local) || local.DeletionTimestamp != nil:
		return stepNone, 0 // what is there stays until the pod is gone
	case have == nil:
		return stepCreate, 0
	case have.DeletionTimestamp != nil:
		return stepNone, 0
	}
	if left := translate.RenewAt(have).Sub(now); left > 0 {
		return stepNone, left
	}
	return stepPatch, 0
}

// syncToken keeps the Secret with the tokens of one pod. They are requested at home, bound to the pod, and good there only.
func (p *Pair) syncToken(ctx context.Context, k key) (time.Duration, error) {
	s := p.space(k.namespace)
	if s == nil || !s.ready.Load() || p.lost.Load() {
		return 0, nil // both come back through enqueueAll
	}
	local := p.tokenUser(k.namespace, k.name)
	have, _ := s.copies[kindSecret].(*typedCopies[*corev1.Secret]).Get(s.remote, k.name)
	todo, again := planTokens(local, have, translate.TokensFollow(s.env()), time.Now())
	client := p.cfg.Remote.CoreV1().Secrets(s.remote)
	var err error
	switch todo {
	case stepNone:
		return again, nil
	case stepDeleteTwin:
		err = client.Delete(ctx, k.name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(have.UID))})
		if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
			err = nil
		}
	default:
		err = p.writeTokens(ctx, s, local, have)
	}
	if err != nil {
		return 0, fmt.Errorf("%s secret %s/%s on %s: %w", todo, s.remote, k.name, p.cfg.Node, err)
	}
	return 0, nil // the write's own event brings the key back
}

// writeTokens makes the Secret, or replaces the tokens in it when there is one.
func (p *Pair) writeTokens(ctx context.Context, s *space, local *corev1.Pod, have *corev1.Secret) error {
	want, err := p.requestTokens(ctx, s, local)
	if err != nil {
		return err
	}
	client := p.cfg.Remote.CoreV1().Secrets(s.remote)
	if have == nil {
		_, err = client.Create(ctx, want, metav1.CreateOptions{FieldManager: fieldManager})
		return err
	}
	want.UID, want.ResourceVersion = have.UID, have.ResourceVersion
	_, err = client.Update(ctx, want, metav1.UpdateOptions{FieldManager: fieldManager})
	return err
}

// requestTokens asks home for all tokens of a pod.
func (p *Pair) requestTokens(ctx context.Context, s *space, local *corev1.Pod) (*corev1.Secret, error) {
	roots, ok := p.home.loops[kindConfigMap].(*typedLoop[*corev1.ConfigMap]).here.Get(local.Namespace, rootCA)
	if !ok {
		return nil, fmt.Errorf("ConfigMap %s/%s is not there", local.Namespace, rootCA)
	}
	tokens := map[string]string{}
	var renewAt time.Time
	for _, t := range translate.Tokens(&local.Spec) {
		request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
			ExpirationSeconds: &t.Seconds,
			BoundObjectRef:    &authenticationv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: local.Name, UID: local.UID},
		}}
		if t.Audience != "" {
			request.Spec.Audiences = []string{t.Audience}
		}
		now := time.Now()
		got, err := p.home.cfg.Client.CoreV1().ServiceAccounts(local.Namespace).CreateToken(ctx, local.Spec.ServiceAccountName, request, metav1.CreateOptions{})
		if err != nil {
			return nil, fmt.Errorf("request a token of ServiceAccount %s/%s for pod %s: %w", local.Namespace, local.Spec.ServiceAccountName, local.Name, err)
		}
		tokens[t.Key] = got.Status.Token
		// As a kubelet does: when four fifths of its life are over.
		if at := now.Add(got.Status.ExpirationTimestamp.Sub(now) * 4 / 5); renewAt.IsZero() || at.Before(renewAt) {
			renewAt = at
		}
	}
	return translate.TokenSecret(local, s.env(), tokens, roots.Data["ca.crt"], renewAt), nil
}
