// SPDX-License-Identifier: Apache-2.0

package capture

import (
	"encoding/binary"
	"io"
	"time"
)

// The classic pcap format, with nanoseconds: draft-ietf-opsawg-pcap.
const (
	magicNanoseconds = 0xa1b23c4d
	linkTypeEthernet = 1
	// snapLength is the most of a packet that is written. The kernel hands over what network cards would cut into
	// segments as one.
	snapLength = 256 << 10
)

func writeHeader(w io.Writer) error {
	header := binary.LittleEndian.AppendUint32(nil, magicNanoseconds)
	header = binary.LittleEndian.AppendUint16(header, 2) // version 2.4
	header = binary.LittleEndian.AppendUint16(header, 4)
	header = append(header, make([]byte, 8)...)
	header = binary.LittleEndian.AppendUint32(header, snapLength)
	header = binary.LittleEndian.AppendUint32(header, linkTypeEthernet)
	_, err := w.Write(header)
	return err
}

// writePacket in one piece, so that a reader at the other end of a pipe sees it whole.
func writePacket(w io.Writer, at time.Time, packet []byte) error {
	record := make([]byte, 0, 16+len(packet))
	record = binary.LittleEndian.AppendUint32(record, uint32(at.Unix()))
	record = binary.LittleEndian.AppendUint32(record, uint32(at.Nanosecond()))
	record = binary.LittleEndian.AppendUint32(record, uint32(len(packet)))
	record = binary.LittleEndian.AppendUint32(record, uint32(len(packet)))
	_, err := w.Write(append(record, packet...))
	return err
}
