package reflector

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/spillway-dev/spillway/reflector/translate"
)

const (
	// callTimeout bounds one API call. A watch is not bound by it.
	callTimeout = 15 * time.Second
	// retryRefused is how long after a refusal by the provider the same object is tried again.
	retryRefused = 30 * time.Second
	// quickRetries is how often a lack of rights is retried at once before it is believed: rights that were just granted
	// take some milliseconds to reach every part of an API server.
	quickRetries = 6
	// fieldManager is the manager under which twins and local statuses are written.
	fieldManager = translate.FieldManager
)

// errForeign: an object of that name exists at the peer and is not ours.
var errForeign = errors.New("an object of that name exists there and was not made by Spillway")

// sync does the next step for a key. It returns when to look again (0: not by time) or an error (retry with backoff).
// Nothing is done before every cache that the decision rests on is complete.
func (p *Pair) sync(ctx context.Context, k key) (time.Duration, error) {
	if !p.home.synced() || !p.local.HasSynced() {
		return time.Second / 10, nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	switch k.kind {
	case kindPod:
		return p.syncPod(ctx, k)
	case kindToken:
		return p.syncToken(ctx, k)
	}
	return p.syncObject(ctx, k)
}

func (p *Pair) syncPod(ctx context.Context, k key) (time.Duration, error) {
	local, _ := p.local.Get(k.namespace, k.name)
	s := p.space(k.namespace)
	if s == nil || !s.ready.Load() {
		return p.planWithoutSpace(ctx, local)
	}
	twin, _ := s.twins.Get(s.remote, k.name)
	env := p.podEnv(s, local, twin)
	todo := plan(local, twin, env)
	again := env.recreateIn
	for p.sentLately(k, todo, env.now) {
		env.Skip, again = append(env.Skip, todo.subresource), retryRefused
		todo = plan(local, twin, env)
	}
	if todo.err != nil {
		p.home.cfg.Log.Error("pod cannot be planned", zap.String("node", p.cfg.Node),
			zap.String("namespace", k.namespace), zap.String("name", k.name), zap.Error(todo.err))
		return 0, nil
	}
	if todo.again > 0 {
		return todo.again, nil
	}
	if todo.kind == stepCreate {
		if wait := p.refusedLately(k, todo.twin, env.now); wait > 0 {
			p.measures.steps[todo.kind].putOff.Inc()
			return wait, nil
		}
	}
	if env.peerLost && todo.remote() {
		p.measures.steps[todo.kind].putOff.Inc()
		return again, nil // SetLost(false) brings the key back
	}
	if todo.kind == stepNone && env.waitFor == "" {
		p.changes.settled(k)
	}
	err := p.do(p.ways.into(ctx, local), s, local, twin, todo)
	if err == nil {
		p.noteSent(k, todo, env.now)
		p.forgetRefused(k, todo)
		return again, nil
	}
	reason, refused := refusalReason(err)
	switch {
	case todo.kind == stepCreate:
		return p.creationFailed(ctx, s, local, todo.twin, err)
	case todo.kind == stepPatch && refused:
		p.noteSent(k, todo, env.now)
		p.home.cfg.Events.Event(local, corev1.EventTypeWarning, reason, fmt.Sprintf("%s: %s", p.cfg.Node, s.words(err)))
		return holdStatus, nil // the status is not to wait for it
	}
	return 0, err
}

// podEnv is what the plan for a pod depends on. Of a pod that has a twin little needs to be known.
func (p *Pair) podEnv(s *space, local, twin *corev1.Pod) planEnv {
	env := planEnv{Env: s.env(), now: time.Now(), peerLost: p.lost.Load()}
	if local == nil {
		return env
	}
	env.twinSeenGone = p.seenGone(local.UID)
	if twin == nil || env.peerLost {
		rules := p.podRules(local)
		env.Patch, env.recreateIn = rules.patch(), p.recreateIn(local, rules, env.now)
		env.refusal = p.refusal(local, rules)
	}
	if twin != nil {
		return env
	}
	env.waitFor, env.taken = p.missingReference(s, local), p.takenReference(local)
	env.EphemeralClass = p.home.volumes.ephemeralClasses(local.Namespace)
	if env.waitFor == "" {
		env.waitFor = p.home.volumes.ephemeralMissing(local)
	}
	if env.waitFor == "" && s.tokensMissing(local) {
		env.waitFor = "its tokens"
	}
	return env
}

// planWithoutSpace: the tenant namespace is not known yet, so nothing is decided but what needs no peer.
func (p *Pair) planWithoutSpace(ctx context.Context, local *corev1.Pod) (time.Duration, error) {
	if local == nil || terminal(local) {
		return 0, nil
	}
	now, rules := time.Now(), p.podRules(local)
	in := p.recreateIn(local, rules, now)
	switch {
	case in < 0:
		return 0, p.do(ctx, nil, local, nil, recreate(local, now))
	case local.DeletionTimestamp != nil:
		return in, nil
	case p.lost.Load():
		return in, p.do(ctx, nil, local, nil, planLost(local))
	case started(local):
		return 0, nil
	}
	if why := p.refusal(local, rules); why != "" {
		return 0, p.do(ctx, nil, local, nil, refuse(local, reasonNotAllowed, why, now))
	}
	return 0, nil
}

// refusal says why a pod may not run in the peer; empty when it may.
func (p *Pair) refusal(local *corev1.Pod, rules PodRules) string {
	if owner := metav1.GetControllerOf(local); owner != nil && owner.Kind == "DaemonSet" {
		return fmt.Sprintf("pods of DaemonSets run on real nodes only: let DaemonSet %s select nodes without the label %s",
			owner.Name, "type=virtual-kubelet")
	}
	if _, ok := local.Annotations[corev1.MirrorPodAnnotationKey]; ok {
		return "static pods belong to the kubelet that made them"
	}
	return rules.Refusal
}

// remote says whether the step needs the peer.
func (s step) remote() bool {
	switch s.kind {
	case stepCreate, stepPatch, stepDeleteTwin:
		return true
	}
	return s.proveTwinGone
}

// do performs one step, unless it was just done.
func (p *Pair) do(ctx context.Context, s *space, local, twin *corev1.Pod, todo step) error {
	if local == nil || todo.kind == stepNone {
		err := p.doNow(ctx, s, local, twin, todo)
		p.stepped(p.keyOf(s, local, twin), todo, err)
		return err
	}
	k, this := p.podKey(local.Namespace, local.Name), newDoneStep(todo, local, twin, time.Now())
	if p.justDone(k, this) {
		p.home.queue.AddAfter(k, echoWithin)
		return nil
	}
	err := p.doNow(ctx, s, local, twin, todo)
	p.stepped(k, todo, err)
	if err == nil {
		p.tookStep(todo, local, twin)
		p.noteDone(k, this)
	}
	return err
}

// keyOf is that of a local pod, or of the one that a twin is for.
func (p *Pair) keyOf(s *space, local, twin *corev1.Pod) key {
	switch {
	case local != nil:
		return p.podKey(local.Namespace, local.Name)
	case twin != nil:
		return p.podKey(s.local, twin.Name)
	}
	return key{}
}

// doNow performs one step: at most one write, preceded by the live read that the step asks for.
func (p *Pair) doNow(ctx context.Context, s *space, local, twin *corev1.Pod, todo step) error {
	if todo.proveTwinGone {
		if exists, err := p.twinExists(ctx, s, local); err != nil || exists {
			return err // when it exists the watch will tell
		}
	}
	if todo.proveLocalGone != "" {
		if exists, err := p.localExists(ctx, s.local, twin.Name, todo.proveLocalGone); err != nil || exists {
			return err
		}
	}
	switch todo.kind {
	case stepCreate:
		return p.createTwin(ctx, local, todo.twin)
	case stepPatch:
		return p.patchTwin(ctx, twin, todo)
	case stepDeleteTwin:
		return p.deleteTwin(ctx, twin, todo.grace)
	case stepSetStatus:
		if todo.reason != "" {
			p.home.cfg.Events.Event(local, corev1.EventTypeWarning, todo.reason, todo.message)
		}
		return p.patchLocal(ctx, local, types.StrategicMergePatchType, todo.patch, "status")
	case stepHold:
		return p.patchLocal(ctx, local, types.MergePatchType, todo.patch)
	case stepDeleteLocal:
		if todo.reason != "" {
			p.home.cfg.Events.Event(local, corev1.EventTypeWarning, todo.reason, todo.message)
		}
		return p.deleteLocal(ctx, local)
	}
	return nil
}

func (p *Pair) createTwin(ctx context.Context, local, twin *corev1.Pod) error {
	_, err := p.cfg.Remote.CoreV1().Pods(twin.Namespace).Create(ctx, twin, metav1.CreateOptions{FieldManager: fieldManager})
	if apierrors.IsAlreadyExists(err) {
		err = p.adopt(ctx, local, twin)
	}
	if err != nil {
		return fmt.Errorf("create pod %s/%s on %s: %w", twin.Namespace, twin.Name, p.cfg.Node, err)
	}
	p.forgetGone(local.UID)
	return nil
}

// adopt is called when the name is taken: by our own twin that the cache does not show yet (fine), by the twin of an
// earlier pod that is still ending (try again), or by a foreign object (leave it alone).
func (p *Pair) adopt(ctx context.Context, local, twin *corev1.Pod) error {
	have, err := p.cfg.Remote.CoreV1().Pods(twin.Namespace).Get(ctx, twin.Name, metav1.GetOptions{})
	switch {
	case err != nil:
		return err
	case have.Labels[translate.LabelOrigin] != p.home.cfg.Origin:
		return errForeign
	case originUID(have) != local.UID:
		return fmt.Errorf("the twin of an earlier pod, uid %s, is still there", originUID(have))
	}
	return nil
}

// creationFailed turns a refusal by the provider into something the user sees; anything else is retried.
func (p *Pair) creationFailed(ctx context.Context, s *space, local, twin *corev1.Pod, err error) (time.Duration, error) {
	reason, refused := refusalReason(err)
	k := p.podKey(local.Namespace, local.Name)
	if !refused || mayPass(err) && p.home.queue.NumRequeues(k) < quickRetries {
		return 0, err
	}
	p.noteRefused(k, twin, time.Now())
	message := fmt.Sprintf("%s: %s", p.cfg.Node, s.words(err))
	todo := refuse(local, reason, message, time.Now())
	if err := p.do(ctx, nil, local, nil, todo); err != nil {
		return 0, err
	}
	return retryRefused, nil
}

// refusalReason tells a refusal, which only a change by somebody can heal, from a passing fault.
func refusalReason(err error) (reason string, refused bool) {
	switch {
	case errors.Is(err, errForeign), errors.Is(err, errEarlierClaim):
		return reasonNameTaken, true
	case errors.Is(err, errVolumeElsewhere):
		return reasonRefused, true
	case apierrors.IsForbidden(err), apierrors.IsInvalid(err), apierrors.IsBadRequest(err),
		apierrors.IsRequestEntityTooLargeError(err):
		return reasonRefused, true
	}
	return "", false
}

// mayPass tells a lack of rights, which may just have been granted, from what a quota or an admission says: both are Forbidden.
func mayPass(err error) bool {
	return apierrors.IsForbidden(err) && strings.Contains(rootMessage(err), " cannot ")
}

// rootMessage is the API server's own sentence where there is one.
func rootMessage(err error) string {
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		return status.Status().Message
	}
	return err.Error()
}

func (p *Pair) patchTwin(ctx context.Context, twin *corev1.Pod, todo step) error {
	var subresources []string
	if todo.subresource != "" {
		subresources = []string{todo.subresource}
	}
	_, err := p.cfg.Remote.CoreV1().Pods(twin.Namespace).Patch(ctx, twin.Name, types.StrategicMergePatchType, todo.patch,
		metav1.PatchOptions{FieldManager: fieldManager}, subresources...)
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("patch pod %s/%s on %s: %w", twin.Namespace, twin.Name, p.cfg.Node, err)
	}
	return nil
}

func (p *Pair) deleteTwin(ctx context.Context, twin *corev1.Pod, grace time.Duration) error {
	seconds := int64(grace.Seconds())
	err := p.cfg.Remote.CoreV1().Pods(twin.Namespace).Delete(ctx, twin.Name, metav1.DeleteOptions{
		GracePeriodSeconds: &seconds, Preconditions: metav1.NewUIDPreconditions(string(twin.UID)),
	})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return fmt.Errorf("delete pod %s/%s on %s: %w", twin.Namespace, twin.Name, p.cfg.Node, err)
	}
	return nil
}

func (p *Pair) patchLocal(ctx context.Context, local *corev1.Pod, kind types.PatchType, patch []byte, subresources ...string) error {
	_, err := p.home.cfg.Client.CoreV1().Pods(local.Namespace).Patch(ctx, local.Name, kind, patch,
		metav1.PatchOptions{FieldManager: fieldManager}, subresources...)
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("patch pod %s/%s: %w", local.Namespace, local.Name, err)
	}
	return nil
}

func (p *Pair) deleteLocal(ctx context.Context, local *corev1.Pod) error {
	now := int64(0)
	err := p.home.cfg.Client.CoreV1().Pods(local.Namespace).Delete(ctx, local.Name, metav1.DeleteOptions{
		GracePeriodSeconds: &now, Preconditions: metav1.NewUIDPreconditions(string(local.UID)),
	})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return fmt.Errorf("delete pod %s/%s: %w", local.Namespace, local.Name, err)
	}
	return nil
}

// twinExists asks the peer itself whether the local pod has a twin.
func (p *Pair) twinExists(ctx context.Context, s *space, local *corev1.Pod) (bool, error) {
	twin, err := p.cfg.Remote.CoreV1().Pods(s.remote).Get(ctx, local.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("get pod %s/%s on %s: %w", s.remote, local.Name, p.cfg.Node, err)
	}
	return twin.Labels[translate.LabelOrigin] == p.home.cfg.Origin && originUID(twin) == local.UID, nil
}

// localExists asks the home API server itself whether the pod with this UID is still there.
func (p *Pair) localExists(ctx context.Context, namespace, name string, uid types.UID) (bool, error) {
	local, err := p.home.cfg.Client.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("get pod %s/%s: %w", namespace, name, err)
	}
	return local.UID == uid, nil
}
