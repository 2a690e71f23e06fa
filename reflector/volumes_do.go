package reflector

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/spillway-dev/spillway/reflector/translate"
)

// provision does the next step for a claim, which may be nil, that may need a volume.
func (v *volumes) provision(ctx context.Context, claim *corev1.PersistentVolumeClaim) (time.Duration, error) {
	if !needsVolume(claim) {
		return 0, nil
	}
	if _, made := v.pvs.Get("", volumeName(claim.UID)); made {
		return 0, nil // the cluster's controller binds them
	}
	facts, err := v.facts(ctx, claim)
	if err != nil {
		return 0, err
	}
	todo := planVolume(facts)
	if err := v.do(ctx, claim, todo); err != nil {
		return 0, fmt.Errorf("%s volume of claim %s/%s: %w", todo.kind, claim.Namespace, claim.Name, err)
	}
	if todo.kind == volumeTell {
		return retryRefused, nil
	}
	return 0, nil
}

// facts reads what planVolume needs. These reads are live: there are few of them, and watches of classes and nodes would be
// for them alone.
func (v *volumes) facts(ctx context.Context, claim *corev1.PersistentVolumeClaim) (f volumeFacts, err error) {
	f = volumeFacts{claim: claim, namespace: v.home.cfg.VolumeNamespace}
	client := v.home.cfg.Client
	f.class, err = client.StorageV1().StorageClasses().Get(ctx, *claim.Spec.StorageClassName, metav1.GetOptions{})
	if err != nil {
		return f, fmt.Errorf("get StorageClass %s: %w", *claim.Spec.StorageClassName, err)
	}
	node := claim.Annotations[annotationSelectedNode]
	f.ruled = v.home.cfg.Rules.StorageClass(claim.Namespace, node)
	if node == "" {
		return f, nil
	}
	f.node, err = client.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		f.node = nil
		return f, nil
	}
	if err != nil {
		return f, fmt.Errorf("get node %s: %w", node, err)
	}
	if f.node.Labels[translate.LabelPeer] != "" || f.namespace == "" {
		return f, nil
	}
	return f, v.factsAtHome(ctx, &f)
}

func (v *volumes) factsAtHome(ctx context.Context, f *volumeFacts) error {
	f.behind, _ = v.claims.here.Get(f.namespace, volumeName(f.claim.UID))
	if f.behind == nil {
		var err error
		f.local, err = v.localClass(ctx, f.class)
		return err
	}
	if f.behind.Status.Phase != corev1.ClaimBound {
		return nil
	}
	var err error
	f.source, err = v.home.cfg.Client.CoreV1().PersistentVolumes().Get(ctx, f.behind.Spec.VolumeName, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("get volume %s: %w", f.behind.Spec.VolumeName, err)
	}
	return nil
}

// localClass is the class of volumes at home that ours stands for; nil when none is known.
func (v *volumes) localClass(ctx context.Context, class *storagev1.StorageClass) (*storagev1.StorageClass, error) {
	classes := v.home.cfg.Client.StorageV1().StorageClasses()
	if named := class.Parameters[translate.KeyLocalClass]; named != "" {
		local, err := classes.Get(ctx, named, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("get StorageClass %s: %w", named, err)
		}
		return local, nil
	}
	all, err := classes.List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list StorageClasses: %w", err)
	}
	return defaultClass(all.Items), nil
}

func (v *volumes) do(ctx context.Context, claim *corev1.PersistentVolumeClaim, todo volumeStep) error {
	core, made := v.home.cfg.Client.CoreV1(), metav1.CreateOptions{FieldManager: fieldManager}
	var err error
	switch todo.kind {
	case volumeCreate:
		_, err = core.PersistentVolumes().Create(ctx, todo.pv, made)
	case volumeBack:
		_, err = core.PersistentVolumeClaims(todo.behind.Namespace).Create(ctx, todo.behind, made)
	case volumeReschedule:
		return v.patchClaim(ctx, claim, object{"metadata": object{"annotations": object{annotationSelectedNode: nil}}})
	case volumeTell:
		v.home.cfg.Events.Event(claim, corev1.EventTypeWarning, todo.reason, todo.message)
	}
	if apierrors.IsAlreadyExists(err) {
		return nil // made a moment ago: both carry the claim's UID in their names
	}
	return err
}

// object is JSON.
type object = map[string]any

func (v *volumes) patchClaim(ctx context.Context, claim *corev1.PersistentVolumeClaim, patch object, sub ...string) error {
	data, err := json.Marshal(patch)
	if err != nil {
		return err
	}
	_, err = v.home.cfg.Client.CoreV1().PersistentVolumeClaims(claim.Namespace).Patch(ctx, claim.Name, types.MergePatchType, data,
		metav1.PatchOptions{FieldManager: fieldManager}, sub...)
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// keep does the next step for a volume, which may be nil: it goes after what is behind it, and grows after it.
func (v *volumes) keep(ctx context.Context, pv *corev1.PersistentVolume) error {
	if pv == nil {
		return nil
	}
	switch {
	case released(pv):
		gone, err := v.removeBehind(ctx, pv)
		if err != nil || !gone {
			return err
		}
		return v.remove(ctx, pv)
	case pv.DeletionTimestamp != nil && pv.Status.Phase != corev1.VolumeBound:
		return v.remove(ctx, pv) // what is behind it is retained
	}
	return v.grow(ctx, pv)
}

// grow does the next step for a volume whose claim asks for more.
func (v *volumes) grow(ctx context.Context, pv *corev1.PersistentVolume) error {
	ref := claimOf(pv)
	claim, ok := v.claims.here.Get(ref.Namespace, ref.Name)
	if !ok || claim.UID != ref.UID {
		return nil
	}
	behind := v.behind(pv)
	todo, err := planGrowth(claim, pv, behind), error(nil)
	asked := storage(claim.Spec.Resources.Requests)
	switch todo {
	case growBehind:
		err = v.patchClaim(ctx, behind, object{"spec": object{"resources": object{"requests": object{"storage": asked}}}})
	case growVolume:
		err = v.patchVolume(ctx, pv.Name, object{"spec": object{"capacity": object{"storage": asked}}})
	case growClaim:
		err = v.patchClaim(ctx, claim, object{"status": object{"capacity": object{"storage": storage(pv.Spec.Capacity)}}}, "status")
	}
	if err != nil {
		return fmt.Errorf("let volume %s grow: %w", pv.Name, err)
	}
	return nil
}

func (v *volumes) patchVolume(ctx context.Context, name string, patch object) error {
	data, err := json.Marshal(patch)
	if err != nil {
		return err
	}
	_, err = v.home.cfg.Client.CoreV1().PersistentVolumes().Patch(ctx, name, types.MergePatchType, data,
		metav1.PatchOptions{FieldManager: fieldManager})
	return err
}

// behind is the claim that a volume stands on, as the caches show it: its twin, or the one at home. It may be nil.
func (v *volumes) behind(pv *corev1.PersistentVolume) *corev1.PersistentVolumeClaim {
	if peerOf(pv) == "" {
		claim, _ := v.claims.here.Get(v.home.cfg.VolumeNamespace, pv.Name)
		return claim
	}
	s := v.spaceOf(pv)
	if s == nil {
		return nil
	}
	twin, _ := s.copies[kindClaim].(*typedCopies[*corev1.PersistentVolumeClaim]).Get(s.remote, claimOf(pv).Name)
	if twin == nil || originUID(twin) != claimOf(pv).UID {
		return nil
	}
	return twin
}

// spaceOf is where the twin of a volume's claim is; nil while that is not known, or its peer does not answer.
func (v *volumes) spaceOf(pv *corev1.PersistentVolume) (found *space) {
	v.home.eachPair(func(p *Pair) {
		if s := p.space(claimOf(pv).Namespace); v.isAt(p, pv) && s != nil && s.ready.Load() && !p.lost.Load() {
			found = s
		}
	})
	return found
}

// removeBehind removes the claim that a volume stands on and says whether it is gone.
func (v *volumes) removeBehind(ctx context.Context, pv *corev1.PersistentVolume) (gone bool, err error) {
	if peerOf(pv) != "" {
		return v.twinGone(ctx, pv)
	}
	claim := v.behind(pv)
	if claim == nil {
		return true, nil
	}
	if claim.DeletionTimestamp != nil {
		return false, nil
	}
	err = v.home.cfg.Client.CoreV1().PersistentVolumeClaims(claim.Namespace).Delete(ctx, claim.Name,
		metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(claim.UID))})
	if err != nil && !apierrors.IsNotFound(err) {
		return false, fmt.Errorf("delete claim %s/%s: %w", claim.Namespace, claim.Name, err)
	}
	return false, nil
}

// twinGone says whether the twin of a volume's claim is gone; the loop of claims deletes it. The cache may be behind, so the
// peer is asked before the volume, the only record of it, goes.
func (v *volumes) twinGone(ctx context.Context, pv *corev1.PersistentVolume) (bool, error) {
	s, ref := v.spaceOf(pv), claimOf(pv)
	if s == nil {
		return v.unpeered(ctx, peerOf(pv)) // otherwise it comes back with the space
	}
	if v.behind(pv) != nil {
		v.home.queue.Add(key{s.pair.cfg.Node, kindClaim, ref.Namespace, ref.Name})
		return false, nil
	}
	twin, err := s.pair.cfg.Remote.CoreV1().PersistentVolumeClaims(s.remote).Get(ctx, ref.Name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return true, nil
	case err != nil:
		return false, fmt.Errorf("get claim %s/%s on %s: %w", s.remote, ref.Name, s.pair.cfg.Node, err)
	case twin.Labels[translate.LabelOrigin] != v.home.cfg.Origin || originUID(twin) != ref.UID:
		return true, nil
	}
	return false, fmt.Errorf("claim %s/%s on %s is still there", s.remote, ref.Name, s.pair.cfg.Node)
}

// unpeered says whether home has no node of a peer left, so that nobody will ever answer for it. The nodes of a peer that is away stay.
func (v *volumes) unpeered(ctx context.Context, peer string) (bool, error) {
	attached := false
	v.home.eachPair(func(p *Pair) { attached = attached || p.cfg.Peer == peer })
	if attached {
		return false, nil
	}
	nodes, err := v.home.cfg.Client.CoreV1().Nodes().List(ctx,
		metav1.ListOptions{LabelSelector: translate.LabelPeer + "=" + peer, Limit: 1})
	if err != nil {
		return false, fmt.Errorf("list nodes of peer %s: %w", peer, err)
	}
	return len(nodes.Items) == 0, nil
}

// remove takes our finalizer from a volume, and then the volume: one write each.
func (v *volumes) remove(ctx context.Context, pv *corev1.PersistentVolume) error {
	var err error
	switch {
	case slices.Contains(pv.Finalizers, finalizer):
		others := slices.DeleteFunc(slices.Clone(pv.Finalizers), func(f string) bool { return f == finalizer })
		err = v.patchVolume(ctx, pv.Name, object{"metadata": object{
			"uid": pv.UID, "resourceVersion": pv.ResourceVersion, "finalizers": others,
		}})
	case pv.DeletionTimestamp == nil:
		err = v.home.cfg.Client.CoreV1().PersistentVolumes().Delete(ctx, pv.Name,
			metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(pv.UID))})
	}
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("remove volume %s: %w", pv.Name, err)
	}
	return nil
}

// Volumes names what is kept at a peer, each as its claim's namespace/name, or the volume's name where the claim has been taken
// away from it. The second result is false while that is not known.
func (h *Home) Volumes(peer string) (names []string, known bool) {
	for _, pv := range h.volumes.of(peer) {
		if ref := claimOf(pv); ref.Name != "" {
			names = append(names, ref.Namespace+"/"+ref.Name)
		} else {
			names = append(names, pv.Name)
		}
	}
	slices.Sort(names)
	return names, h.volumes.pvs.HasSynced()
}

// DropVolumes forgets, at home, all volumes at a peer that will not answer again, without asking it. Those that are claimed go with
// their claims, which become Lost. It does one round and says whether all was asked for; call it again until then.
func (h *Home) DropVolumes(ctx context.Context, peer string) (done bool, err error) {
	done = h.volumes.pvs.HasSynced()
	for _, pv := range h.volumes.of(peer) {
		if pv.DeletionTimestamp == nil || slices.Contains(pv.Finalizers, finalizer) {
			done = false // until the cache shows it
			err = errors.Join(err, h.volumes.remove(ctx, pv))
		}
	}
	return done, err
}
