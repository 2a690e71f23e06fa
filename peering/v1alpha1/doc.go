// Package v1alpha1 holds the kinds of the API group spillway.dev and the labels, annotations and taints that
// Spillway writes on objects of other groups.
//
// It knows types only: no client, no loop. Everything a user can do with Spillway can be done with these objects
// alone; the command spillway only writes and reads them.
//
// +kubebuilder:object:generate=true
// +groupName=spillway.dev
package v1alpha1
