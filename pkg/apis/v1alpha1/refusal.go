// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"fmt"
	"strings"
	"time"
)

// PodSubnetRefusal is the value of AnnotationPodSubnetRefused: EC2 would not give a node addresses of a pod subnet.
//
// +kubebuilder:object:generate=false
type PodSubnetRefusal struct {
	// Subnet's id, and EC2's error code.
	Subnet, Code string
	// At is when EC2 answered.
	At time.Time
}

// String is subnet=subnet-0ab,code=InsufficientCidrBlocks,at=2006-01-02T15:04:05.999Z.
func (r PodSubnetRefusal) String() string {
	return fmt.Sprintf("subnet=%s,code=%s,at=%s", r.Subnet, r.Code, r.At.UTC().Format(time.RFC3339Nano))
}

// ParsePodSubnetRefusal reads what String wrote. It passes over what it does not know.
func ParsePodSubnetRefusal(value string) (PodSubnetRefusal, error) {
	var r PodSubnetRefusal
	var err error
	for field := range strings.SplitSeq(value, ",") {
		switch name, text, _ := strings.Cut(field, "="); name {
		case "subnet":
			r.Subnet = text
		case "code":
			r.Code = text
		case "at":
			r.At, err = time.Parse(time.RFC3339Nano, text)
		}
	}
	if err != nil || r.Subnet == "" || r.Code == "" || r.At.IsZero() {
		return r, fmt.Errorf("%.80q is no refusal such as %s", value, PodSubnetRefusal{Subnet: "subnet-0ab", Code: "InsufficientCidrBlocks", At: time.Unix(0, 0)})
	}
	return r, nil
}
