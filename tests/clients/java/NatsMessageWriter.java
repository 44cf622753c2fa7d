import io.cloudevents.CloudEventData;
import io.cloudevents.SpecVersion;
import io.cloudevents.core.format.EventFormat;
import io.cloudevents.core.message.MessageWriter;
import io.cloudevents.rw.CloudEventWriter;
import io.nats.client.Message;
import io.nats.client.impl.Headers;
import io.nats.client.impl.NatsMessage;
import java.nio.charset.StandardCharsets;

/** An event as a message for NATS: new NatsMessageWriter(subject).writeStructured(event, format), or .writeBinary(event). */
public final class NatsMessageWriter
        implements MessageWriter<NatsMessageWriter, Message>, CloudEventWriter<Message> {
    private final String subject;
    private final Headers headers = new Headers();

    public NatsMessageWriter(String subject) {
        this.subject = subject;
    }

    @Override
    public Message setEvent(EventFormat format, byte[] event) {
        headers.put("Content-Type", format.serializedContentType());
        return message(event);
    }

    @Override
    public NatsMessageWriter create(SpecVersion version) {
        return withContextAttribute("specversion", version.toString());
    }

    @Override
    public NatsMessageWriter withContextAttribute(String name, String value) {
        if (name.equals("datacontenttype")) {
            headers.put("Content-Type", value);
        } else {
            headers.put("ce-" + name, encoded(value));
        }
        return this;
    }

    @Override
    public Message end(CloudEventData data) {
        return message(data.toBytes());
    }

    @Override
    public Message end() {
        return message(null);
    }

    private Message message(byte[] data) {
        return NatsMessage.builder().subject(subject).headers(headers).data(data).build();
    }

    private static String encoded(String value) {
        var encoded = new StringBuilder();
        for (byte octet : value.getBytes(StandardCharsets.UTF_8)) {
            boolean plain = octet > ' ' && octet <= '~' && octet != '"' && octet != '%';
            encoded.append(plain ? String.valueOf((char) octet) : String.format("%%%02X", octet));
        }
        return encoded.toString();
    }
}
