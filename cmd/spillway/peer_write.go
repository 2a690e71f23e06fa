package main

import (
	"context"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	applycorev1 "k8s.io/client-go/applyconfigurations/core/v1"
	applymetav1 "k8s.io/client-go/applyconfigurations/meta/v1"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

const (
	// A cluster may be consumer and provider of the same peer, and then one Peering has both parts. Each part has its
	// own field manager, so that applying one never takes the other away.
	managerShare  = "spillway-cli-share"
	managerBorrow = "spillway-cli-borrow"

	labelManagedBy = "app.kubernetes.io/managed-by"
	managedBy      = "spillway"
	tokenKey       = "token" // of the credential, in the provider's Secret and in the consumer's
)

// Results of a write.
const (
	created   = "created"
	updated   = "updated"
	unchanged = "unchanged"
)

// secretName is the name of the Secret that holds the credential for the Peering of this name.
func secretName(peering string) string { return "peering-" + peering }

// writeShare writes the provider's Peering.
func (p *peerRun) writeShare(ctx context.Context) (string, error) {
	want := newPeering(p.consumerName, v1alpha1.PeeringSpec{
		ClusterID: p.consumer.id, Share: wantShare(p.atProvider, p.wish), Tunnel: wantTunnel(p.atProvider, p.joining, p.wish.remoteEndpoints),
	})
	if sameShare(p.atProvider, want) {
		return unchanged, nil
	}
	result := verdict(p.atProvider != nil)
	got, err := p.apply(ctx, p.provider, managerShare, want)
	if err != nil {
		return "", err
	}
	p.atProvider = got
	return result, nil
}

// writeBorrow writes the consumer's Peering.
func (p *peerRun) writeBorrow(ctx context.Context) (string, error) {
	tenant, _ := tenantOf(p.atProvider)
	want := newPeering(p.name, v1alpha1.PeeringSpec{
		ClusterID: p.provider.id,
		API: &v1alpha1.APIEndpoint{
			Server:          wantServer(p.atConsumer, p.wish, p.provider.server),
			CABundle:        p.provider.caBundle,
			SecretName:      secretName(p.name),
			TenantNamespace: tenant.Namespace,
			PeeringName:     p.consumerName,
			Via:             wantVia(p.atConsumer, p.joining, p.wish.via),
		},
		Borrow: wantBorrow(p.atConsumer, p.name, p.wish),
		Tunnel: wantTunnel(p.atConsumer, p.joining, p.wish.endpoints),
	})
	if sameBorrow(p.atConsumer, want) {
		return unchanged, nil
	}
	result := verdict(p.atConsumer != nil)
	got, err := p.apply(ctx, p.consumer, managerBorrow, want)
	if err != nil {
		return "", err
	}
	p.atConsumer = got
	return result, nil
}

// writeCredential writes the Secret in the consumer. It belongs to the Peering and is collected with it. The
// namespace exists: the Lease of the controller, which was seen, lives in it.
func (p *peerRun) writeCredential(ctx context.Context) (string, error) {
	want := wantSecret(p.atConsumer, p.token)
	if sameSecret(p.secret, want) {
		return unchanged, nil
	}
	owner := want.OwnerReferences[0]
	config := applycorev1.Secret(want.Name, want.Namespace).WithLabels(want.Labels).WithData(want.Data).WithType(want.Type).
		WithOwnerReferences(applymetav1.OwnerReference().WithAPIVersion(owner.APIVersion).WithKind(owner.Kind).WithName(owner.Name).WithUID(owner.UID))
	_, err := p.consumer.kube.CoreV1().Secrets(want.Namespace).Apply(ctx, config, metav1.ApplyOptions{FieldManager: managerBorrow, Force: true})
	if err != nil {
		return "", explain(p.consumer, fmt.Sprintf("write Secret %s/%s", want.Namespace, want.Name), err)
	}
	p.steps.changed = true
	return fmt.Sprintf("Secret %s/%s %s", want.Namespace, want.Name, verdict(p.secret != nil)), nil
}

// wantSecret is the Secret with the credential token for peering.
func wantSecret(peering *v1alpha1.Peering, token []byte) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Name:      secretName(peering.Name),
			Namespace: v1alpha1.SystemNamespace,
			Labels:    map[string]string{labelManagedBy: managedBy},
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: v1alpha1.GroupVersion.String(), Kind: v1alpha1.PeeringKind, Name: peering.Name, UID: peering.UID,
			}},
		},
		Type: corev1.SecretTypeOpaque,
		Data: map[string][]byte{tokenKey: token},
	}
}

// apply writes the part of a Peering that manager owns.
func (p *peerRun) apply(ctx context.Context, c *cluster, manager string, want *v1alpha1.Peering) (*v1alpha1.Peering, error) {
	data, err := encode(want)
	if err != nil {
		return nil, fmt.Errorf("encode Peering %s: %w", want.Name, err)
	}
	// What is not wished for was copied from what is there, so taking fields over from another manager changes only
	// what the user asked to change.
	force := true
	got, err := c.peerings.Patch(ctx, want.Name, types.ApplyPatchType, data, metav1.PatchOptions{FieldManager: manager, Force: &force})
	if err != nil {
		return nil, explain(c, "write Peering "+want.Name, err)
	}
	p.steps.changed = true
	return got, nil
}

// encode is the JSON of p. Endpoints that are empty on purpose stay in it: leaving them out would leave those of another
// manager.
func encode(p *v1alpha1.Peering) ([]byte, error) {
	data, err := json.Marshal(p)
	if err != nil || p.Spec.Tunnel == nil || p.Spec.Tunnel.Endpoints == nil || len(p.Spec.Tunnel.Endpoints) > 0 {
		return data, err
	}
	var object map[string]any
	if err := json.Unmarshal(data, &object); err != nil {
		return nil, err
	}
	if err := unstructured.SetNestedStringSlice(object, []string{}, "spec", "tunnel", "endpoints"); err != nil {
		return nil, err
	}
	return json.Marshal(object)
}

func newPeering(name string, spec v1alpha1.PeeringSpec) *v1alpha1.Peering {
	return &v1alpha1.Peering{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: v1alpha1.PeeringKind},
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       spec,
	}
}

// verdict is the result of a write to something that did or did not exist.
func verdict(existed bool) string {
	if existed {
		return updated
	}
	return created
}
