package peering

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// Keys of the Secret v1alpha1.TunnelSecret.
const (
	keyGossip   = "gossip"
	keySlot     = "slot-" // and the number of the slot
	gossipBytes = 32
	secretBytes = 32 // of a Curve25519 key
)

// completeKeys says which keys of the Secret are missing, with new ones to fill in, and when none is, the public keys of
// the slots. A key that is there and is none is an error: replacing it would cut a tunnel that works.
func completeKeys(have map[string][]byte) (missing map[string][]byte, public []string, err error) {
	missing = map[string][]byte{}
	if len(have[keyGossip]) == 0 {
		missing[keyGossip] = random(gossipBytes)
	} else if len(have[keyGossip]) != gossipBytes {
		return nil, nil, badKey(keyGossip)
	}
	for slot := range v1alpha1.MaxSlots {
		name := fmt.Sprint(keySlot, slot)
		if len(have[name]) == 0 {
			missing[name] = newPrivateKey()
			continue
		}
		key, err := publicKey(have[name])
		if err != nil {
			return nil, nil, badKey(name)
		}
		public = append(public, key)
	}
	return missing, public, nil
}

func badKey(name string) error {
	return fmt.Errorf("key %s of Secret %s/%s is no key: delete it and a new one is made", name, v1alpha1.SystemNamespace, v1alpha1.TunnelSecret)
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return b
}

// newPrivateKey is a WireGuard key as `wg genkey` writes it.
func newPrivateKey() []byte {
	key := random(secretBytes)
	key[0] &= 248
	key[31] = key[31]&127 | 64
	return base64.StdEncoding.AppendEncode(nil, key)
}

// publicKey is that of a private key; both base64.
func publicKey(private []byte) (string, error) {
	raw, err := base64.StdEncoding.DecodeString(string(private))
	if err != nil {
		return "", err
	}
	key, err := ecdh.X25519().NewPrivateKey(raw)
	if err != nil {
		return "", err
	}
	return base64.StdEncoding.EncodeToString(key.PublicKey().Bytes()), nil
}

// writeKeys adds keys to the Secret, which exists or not. Keys that are there are never replaced.
func (n *network) writeKeys(ctx context.Context, exists bool, keys map[string][]byte) error {
	secrets := n.cfg.Client.CoreV1().Secrets(v1alpha1.SystemNamespace)
	if !exists {
		_, err := secrets.Create(ctx, &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.TunnelSecret, Namespace: v1alpha1.SystemNamespace}, Data: keys,
		}, metav1.CreateOptions{FieldManager: v1alpha1.FieldManager})
		if err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("create Secret %s/%s: %w", v1alpha1.SystemNamespace, v1alpha1.TunnelSecret, err)
		}
		return nil
	}
	have, _ := n.secrets.Get(v1alpha1.SystemNamespace, v1alpha1.TunnelSecret)
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"resourceVersion": have.ResourceVersion}, "data": keys})
	if err != nil {
		return err
	}
	_, err = secrets.Patch(ctx, v1alpha1.TunnelSecret, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: v1alpha1.FieldManager})
	if err != nil && !apierrors.IsConflict(err) {
		return fmt.Errorf("complete Secret %s/%s: %w", v1alpha1.SystemNamespace, v1alpha1.TunnelSecret, err)
	}
	return nil
}
