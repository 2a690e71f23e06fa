package reflector

import (
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/spillway-dev/spillway/internal/live"
	"github.com/spillway-dev/spillway/reflector/translate"
)

var (
	// errEarlierClaim: the twin of a claim that home has deleted and whose volume is to be retained is still there. A new
	// claim never takes the data of an earlier one.
	errEarlierClaim = errors.New("an earlier claim of that name is retained there")
	// errVolumeElsewhere: a pod is on a node of one peer, and its volume at another or at home.
	errVolumeElsewhere = errors.New("the volume is not at this peer")
)

// claims follow where their volume is, whether pods use them or not, and go with a volume that is to be deleted.
func claims(v *volumes) objectKind[*corev1.PersistentVolumeClaim] {
	return objectKind[*corev1.PersistentVolumeClaim]{
		kind: kindClaim,
		watch: func(c kubernetes.Interface, namespace string, tweak func(*metav1.ListOptions)) cache.ListerWatcher {
			return live.ListWatch(c, c.CoreV1().PersistentVolumeClaims(namespace), tweak)
		},
		client: func(c kubernetes.Interface, namespace string) objectClient[*corev1.PersistentVolumeClaim] {
			return c.CoreV1().PersistentVolumeClaims(namespace)
		},
		equal:   translate.PersistentVolumeClaimEqual,
		replace: translate.PersistentVolumeClaimReplace,
		keep:    translate.KeepPersistentVolumeClaim,
		trim:    func(o *corev1.PersistentVolumeClaim) { translate.TrimMeta(&o.ObjectMeta) },
		own: &ownRules[*corev1.PersistentVolumeClaim]{
			indexers: cache.Indexers{indexUID: func(obj any) ([]string, error) {
				return []string{string(obj.(*corev1.PersistentVolumeClaim).UID)}, nil
			}},
			changed: v.claimChanged,
			told:    v.twinChanged,
			follows: func(p *Pair, local *corev1.PersistentVolumeClaim) bool { return v.isAt(p, v.volumeOf(local)) },
			wanted:  v.wanted,
			missing: v.missing,
		},
	}
}

// wanted decides what a tenant namespace should have of a claim. local and have may be nil.
func (v *volumes) wanted(s *space, local, have *corev1.PersistentVolumeClaim) (
	want *corev1.PersistentVolumeClaim, leave bool, err error,
) {
	var pv *corev1.PersistentVolume
	if local != nil {
		pv = v.volumeOf(local)
	}
	var own *corev1.PersistentVolume // that of have
	if have != nil {
		own, _ = v.pvs.Get("", volumeName(originUID(have)))
	}
	here := v.isAt(s.pair, pv)
	switch {
	case have != nil && have.DeletionTimestamp != nil:
		return nil, true, nil
	case have != nil && v.isAt(s.pair, own) && released(own):
		return nil, false, nil // deleted
	case here && have != nil && originUID(have) != local.UID:
		return nil, false, errEarlierClaim
	case here && !ephemeral(local) && (have != nil || local.DeletionTimestamp == nil):
		return translate.PersistentVolumeClaim(local, classOf(pv), s.env()), false, nil
	case pv != nil && !here && len(s.pair.users(kindClaim, local.Namespace, local.Name)) > 0:
		return nil, false, fmt.Errorf("%w but %s", errVolumeElsewhere, whereabouts(pv))
	}
	return nil, true, nil
}

func whereabouts(pv *corev1.PersistentVolume) string {
	if peer := peerOf(pv); peer != "" {
		return "at peer " + peer
	}
	return "at home"
}

// missing says whether a pod on the node has to wait for its claim. Claims that are not ours are not waited for.
func (v *volumes) missing(p *Pair, local, have *corev1.PersistentVolumeClaim) bool {
	pv := v.volumeOf(local)
	if pv == nil {
		return ours(local)
	}
	return !v.isAt(p, pv) || have == nil || originUID(have) != local.UID
}

// ephemeralMissing names a claim of an ephemeral volume of the pod that home has not bound yet; empty when there is none. A
// kubelet waits for that too, and before it nobody knows whether the peer has the class.
func (v *volumes) ephemeralMissing(pod *corev1.Pod) string {
	for _, name := range translate.EphemeralClaims(pod) {
		claim, ok := v.claims.here.Get(pod.Namespace, name)
		if !ok || ours(claim) && v.volumeOf(claim) == nil {
			return fmt.Sprintf("%s %s", kindClaim, name)
		}
	}
	return ""
}

// ephemeralClasses is translate.Env.EphemeralClass for the pods of a local namespace.
func (v *volumes) ephemeralClasses(namespace string) func(claim string) (class string, known bool) {
	return func(name string) (string, bool) {
		claim, ok := v.claims.here.Get(namespace, name)
		if !ok {
			return "", false
		}
		pv := v.volumeOf(claim)
		if pv == nil || peerOf(pv) == "" {
			return "", false
		}
		return classOf(pv), true
	}
}

// wake looks again at the pod that a claim was made for.
func (v *volumes) wake(claim *corev1.PersistentVolumeClaim) {
	owner := metav1.GetControllerOf(claim)
	if owner == nil || owner.Kind != "Pod" {
		return
	}
	v.home.eachPair(func(p *Pair) {
		if _, ok := p.local.Get(claim.Namespace, owner.Name); ok {
			v.home.queue.Add(p.podKey(claim.Namespace, owner.Name))
		}
	})
}

// ephemeral says whether home's controller made the claim for one pod. The peer's makes another for the twin.
func ephemeral(claim *corev1.PersistentVolumeClaim) bool {
	owner := metav1.GetControllerOf(claim)
	return owner != nil && owner.Kind == "Pod"
}
