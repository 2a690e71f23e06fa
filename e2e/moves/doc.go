// Package moves shows that the moves of provider/placement do with Kubernetes' own controllers, scheduler, budgets and API server what they
// do with those of its simulation: there are always as many Ready pods as replicas, and each pod moves once.
//
// It is tests only, on a lab of one cluster in which some nodes play a peer. New pods have a gate, which the test opens to
// where they go.
package moves
