// Package archivetest makes small signed archives in memory for tests and
// serves them over HTTP on loopback, with faults on request. No tool of the
// host is used.
//
//	a := archivetest.New(t)
//	a.AddSuite(archivetest.Suite{Name: "bookworm"})
//	a.AddPackage("bookworm", "main", archivetest.Package{Name: "hello", Version: "2.10-3"})
//	a.Publish("bookworm")
//	server := a.Serve(t)
//	src := server.Source("bookworm")
package archivetest
