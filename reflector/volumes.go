package reflector

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"github.com/spillway-dev/spillway/internal/live"
	"github.com/spillway-dev/spillway/reflector/translate"
)

const (
	indexUID  = "uid"  // of claims
	indexPeer = "peer" // of volumes
)

// volumes makes a PersistentVolume at home for every claim of our provisioner, where the scheduler puts the first pod, and
// removes it again. With the label of its peer on it, the stock scheduler keeps later pods there.
//
// The library of other provisioners (sig-storage-lib-external-provisioner v13) is not used: it watches all volumes and classes and
// takes SharedInformers only, so that claims would be watched twice; it works on a queue of its own; and the end of a volume
// hangs on the twin of its claim, whose events it does not see.
type volumes struct {
	home   *Home
	claims *typedLoop[*corev1.PersistentVolumeClaim]
	pvs    *live.Cache[*corev1.PersistentVolume] // those with our label
}

func newVolumes(h *Home) *volumes {
	v := &volumes{home: h}
	v.claims = newObjectLoop(h, claims(v))
	v.pvs = live.New(live.Options[*corev1.PersistentVolume]{
		Name: "volumes",
		ListWatch: live.ListWatch(h.cfg.Client, h.cfg.Client.CoreV1().PersistentVolumes(), func(o *metav1.ListOptions) {
			o.LabelSelector = translate.LabelPeer // volumes at home have it too, without a value
		}),
		Indexers: cache.Indexers{indexPeer: func(obj any) ([]string, error) {
			return []string{peerOf(obj.(*corev1.PersistentVolume))}, nil
		}},
		Changed: v.changed,
	})
	return v
}

// of are the volumes kept at a peer.
func (v *volumes) of(peer string) []*corev1.PersistentVolume {
	if peer == "" {
		return nil
	}
	return v.pvs.Index(indexPeer, peer)
}

// volumeOf is the volume of ours that a claim is bound to; nil when there is none. Both must say so: when the claim is deleted,
// one of the two is heard of first.
func (v *volumes) volumeOf(claim *corev1.PersistentVolumeClaim) *corev1.PersistentVolume {
	pv, ok := v.pvs.Get("", claim.Spec.VolumeName)
	if !ok || claim.Status.Phase != corev1.ClaimBound || pv.Status.Phase != corev1.VolumeBound || claimOf(pv).UID != claim.UID {
		return nil
	}
	return pv
}

// isAt says whether a volume, which may be nil, is at the peer of a pair.
func (v *volumes) isAt(p *Pair, pv *corev1.PersistentVolume) bool {
	return pv != nil && p.cfg.Peer != "" && peerOf(pv) == p.cfg.Peer
}

// changed looks again at a volume and at its claim, here and at the peer.
func (v *volumes) changed(before, now *corev1.PersistentVolume) {
	pv, queue := firstSet(now, before), v.home.queue
	ref := claimOf(pv)
	queue.Add(key{kind: kindVolume, name: pv.Name})
	queue.Add(key{kind: kindProvision, namespace: ref.Namespace, name: ref.Name})
	v.home.eachPair(func(p *Pair) {
		switch {
		case !v.isAt(p, pv):
		case before == nil || now == nil:
			p.noteWanted()
			fallthrough
		case before.Status.Phase != now.Status.Phase:
			queue.Add(key{p.cfg.Node, kindClaim, ref.Namespace, ref.Name})
		}
	})
	if claim, ok := v.claims.here.Get(ref.Namespace, ref.Name); ok {
		v.wake(claim)
	}
}

// claimChanged looks again at what a claim of home decides: its volume, and a volume that stands on it.
func (v *volumes) claimChanged(before, now *corev1.PersistentVolumeClaim) {
	claim, queue := firstSet(now, before), v.home.queue
	if claim.Namespace == v.home.cfg.VolumeNamespace {
		queue.Add(key{kind: kindVolume, name: claim.Name})
		for _, front := range v.claims.here.Index(indexUID, string(claimUID(claim.Name))) {
			queue.Add(key{kind: kindProvision, namespace: front.Namespace, name: front.Name})
		}
	}
	if !ours(claim) {
		return
	}
	queue.Add(key{kind: kindProvision, namespace: claim.Namespace, name: claim.Name})
	queue.Add(key{kind: kindVolume, name: volumeName(claim.UID)})
	v.wake(claim)
}

// twinChanged looks again at the volume whose twin claim has changed.
func (v *volumes) twinChanged(_ *space, before, now *corev1.PersistentVolumeClaim) {
	v.home.queue.Add(key{kind: kindVolume, name: volumeName(originUID(firstSet(now, before)))})
}

// sync does the next step for a claim that may need a volume, or for a volume.
func (v *volumes) sync(ctx context.Context, k key) (time.Duration, error) {
	if !v.home.synced() {
		return time.Second / 10, nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if k.kind == kindProvision {
		claim, _ := v.claims.here.Get(k.namespace, k.name)
		return v.provision(ctx, claim)
	}
	pv, _ := v.pvs.Get("", k.name)
	return 0, v.keep(ctx, pv)
}

// volumeName is the name of the volume of a claim, and of the claim behind it when the volume is at home.
func volumeName(claim types.UID) string { return "pvc-" + string(claim) }

// claimUID is the inverse of volumeName.
func claimUID(name string) types.UID { return types.UID(name[min(len(name), len("pvc-")):]) }

// peerOf is where the volume is: a peer, or home when empty.
func peerOf(pv *corev1.PersistentVolume) string { return pv.Labels[translate.LabelPeer] }

// claimOf is the claim a volume was made for; nothing when somebody has taken that away to use its data anew.
func claimOf(pv *corev1.PersistentVolume) corev1.ObjectReference {
	if pv.Spec.ClaimRef == nil {
		return corev1.ObjectReference{}
	}
	return *pv.Spec.ClaimRef
}

// classOf is the class of a volume at its peer; empty for the peer's default.
func classOf(pv *corev1.PersistentVolume) string {
	if pv.Spec.CSI == nil {
		return ""
	}
	return pv.Spec.CSI.VolumeAttributes[translate.KeyRemoteClass]
}

// ours says whether the cluster's controller has handed the claim to our provisioner.
func ours(claim *corev1.PersistentVolumeClaim) bool {
	return claim.Annotations[annotationProvisioner] == translate.VolumeProvisioner
}
