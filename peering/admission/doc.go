// Package admission steers new pods of namespaces that have OffloadPolicies or Migrations: a mutating webhook, its certificate, and its
// registration, which names these namespaces alone. The API server asks it about no other pod, whether Spillway runs or not.
//
//	server, err := admission.New(admission.Config{…})
//	go server.Run(ctx)                 // every replica answers
//	server.Register(ctx)               // the leading one keeps certificate and registration, until ctx ends
package admission
